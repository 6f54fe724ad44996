import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseAddress, parseListenAddress, usableAddresses } from '../../../node/net/addresses.ts';
import { networkError, printable, reasonOf } from '../../../node/net/errors.ts';
import { decodeAnswer, decodeGreeting, encodeGreeting } from '../../../node/net/greeting.ts';
import { encodeCanonical } from '../../../protocol/encoding.ts';

const PEER = '12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo';

function codeFrom(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    return String((error as { code?: unknown }).code);
  }
  return 'no error';
}

describe('addresses', () => {
  it('reads TCP addresses, with and without a peer id', () => {
    expect(parseAddress(`/ip4/192.0.2.7/tcp/4001/p2p/${PEER}`)).toMatchObject({ peer: PEER, loopback: false });
    expect(parseAddress('/dns4/peer.example/tcp/4001')).toMatchObject({ peer: undefined, loopback: false });
    expect(parseAddress('/ip6/::1/tcp/4001').loopback).toBe(true);
    expect(parseAddress('/ip4/127.0.0.9/tcp/4001').loopback).toBe(true);
    expect(parseListenAddress('/ip4/0.0.0.0/tcp/0').text).toBe('/ip4/0.0.0.0/tcp/0');
  });

  it.each([
    '',
    'localhost:4001',
    '/ip4/192.0.2.7',
    '/ip4/192.0.2.7/udp/4001',
    '/ip4/192.0.2.7/tcp/4001/ws',
    '/ip4/192.0.2.777/tcp/4001',
    '/ip4/192.0.2.7/tcp/70000',
    '/ip4/192.0.2.7/tcp/0',
    '/ip4/192.0.2.7/tcp/4001/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N',
    `/ip4/192.0.2.7/tcp/4001/p2p/${PEER}/p2p-circuit`,
    `/dns4/${'a'.repeat(300)}/tcp/4001`,
  ])('refuses %j', (text) => {
    expect(codeFrom(() => parseAddress(text))).toBe('E_MULTIADDR');
  });

  it('takes what is usable of a stranger’s list, and throws nothing else', () => {
    const good = `/ip4/192.0.2.7/tcp/4001/p2p/${PEER}`;
    expect(usableAddresses(['nonsense', good, good], 3).map(({ text }) => text)).toEqual([good]);
    expect(usableAddresses([good, '/ip4/192.0.2.8/tcp/1'], 1)).toHaveLength(1);
    fc.assert(
      fc.property(fc.string(), (text) => ['E_MULTIADDR', 'no error'].includes(codeFrom(() => parseAddress(text)))),
    );
  });
});

describe('greetings', () => {
  const greeting = { version: 1, runId: 'ab'.repeat(32), software: 'x', addresses: [], peers: [] };

  it('survive the wire, and a stranger’s text is made printable', () => {
    expect(decodeGreeting(encodeGreeting(greeting), 1)).toEqual(greeting);
    expect(decodeGreeting(encodeGreeting({ ...greeting, software: 'a\u001b[2Jb' }), 1).software).toBe('a [2Jb');
    const refusal = { kind: 'refusal', version: 2, code: 'E_OTHER_VERSION', text: 'no\nway' } as const;
    expect(decodeAnswer(encodeGreeting(refusal), 1)).toEqual({ ...refusal, text: 'no way' });
  });

  it('of another version are named so, whatever else they hold', () => {
    expect(codeFrom(() => decodeGreeting(encodeCanonical({ version: 2, news: [1] }), 1))).toBe('E_OTHER_VERSION');
    expect(codeFrom(() => decodeAnswer(encodeCanonical({ kind: 'welcome', version: 3 }), 1))).toBe('E_OTHER_VERSION');
  });

  it('decode or fail by code, for any bytes and any value', () => {
    const codes = ['E_MALFORMED', 'E_TOO_LARGE', 'E_OTHER_VERSION'];
    const value = fc.dictionary(
      fc.constantFrom('version', 'kind', 'runId', 'peers', 'genesis'),
      fc.oneof(fc.nat(2), fc.string(), fc.constant(null)),
    );
    const bytes = fc.oneof(
      fc.uint8Array(),
      value.map((v) => encodeCanonical({ ...v })),
    );
    fc.assert(
      fc.property(bytes, (input) => {
        expect(codes).toContain(codeFrom(() => decodeGreeting(input, 1)));
        expect(codes).toContain(codeFrom(() => decodeAnswer(input, 1)));
      }),
    );
  });
});

describe('reasons', () => {
  it('name the cause in one line, however deep it lies', () => {
    const deep = new AggregateError([new Error('outer', { cause: new Error('connect ECONNREFUSED 127.0.0.1:1') })]);
    expect(reasonOf(deep)).toBe('connection refused, nothing listens there');
    expect(reasonOf(networkError('E_TIMEOUT', 'no hello in time', new Error('timed out')))).toBe('no answer in time');
    expect(reasonOf(new Error('strange\nthing'))).toBe('Error: strange');
    expect(reasonOf('not an error')).toBe('unknown reason');
    expect(printable('ab\u0007\u202ec', 3)).toBe('ab ');
  });
});
