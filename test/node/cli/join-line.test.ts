import { describe, expect, it } from 'vitest';
import { joinAddresses, joinLine } from '../../../node/cli/join-line.ts';

const PEER = '12D3KooWCm5r9MZAfj2yyPeRw2gTf5UCEYMkAAUccUZHHYnk1rni';

describe('the line to join by', () => {
  it('prefers the local network to bridges, and shows loopback apart', () => {
    const addresses = ['127.0.0.1', '172.17.0.1', '10.0.0.3', '192.168.1.7'].map((ip) => `/ip4/${ip}/tcp/4001`);
    expect(joinAddresses(addresses, PEER)).toEqual({
      network: `/ip4/192.168.1.7/tcp/4001/p2p/${PEER}`,
      loopback: `/ip4/127.0.0.1/tcp/4001/p2p/${PEER}`,
    });
  });

  it('takes a public address before a bridge, a bridge before IPv6, and never a link-local one', () => {
    const bridge = `/ip4/172.17.0.1/tcp/1/p2p/${PEER}`;
    const open = `/ip4/203.0.113.5/tcp/1/p2p/${PEER}`;
    const v6 = `/ip6/2001:db8::5/tcp/1/p2p/${PEER}`;
    const link = `/ip6/fe80::1/tcp/1/p2p/${PEER}`;
    expect(joinAddresses([link, v6, bridge, open], PEER).network).toBe(open);
    expect(joinAddresses([link, v6, bridge], PEER).network).toBe(bridge);
    expect(joinAddresses([link, v6], PEER).network).toBe(v6);
    expect(joinAddresses([link, '/ip6/::1/tcp/1'], PEER)).toEqual({
      network: undefined,
      loopback: `/ip6/::1/tcp/1/p2p/${PEER}`,
    });
  });

  it('is a command for a clone', () => {
    expect(joinLine(`/ip4/10.0.0.3/tcp/1/p2p/${PEER}`)).toBe(`node start --bootstrap /ip4/10.0.0.3/tcp/1/p2p/${PEER}`);
  });
});
