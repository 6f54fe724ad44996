import { shellWord } from './format.ts';

/** The addresses of a peer worth showing to people. */
export interface JoinAddresses {
  /** for another machine; absent when the peer listens on loopback only */
  network: string | undefined;
  /** for a second terminal */
  loopback: string | undefined;
}

/** Private networks before the rest, those of homes and offices first: 172.16/12 is mostly containers' bridges. */
const NETWORKS: readonly RegExp[] = [
  /^\/ip4\/192[.]168[.]/,
  /^\/ip4\/10[.]/,
  /^\/ip4\/(?!172[.](1[6-9]|2\d|3[01])[.])/,
  /^\/dns[46]?\//,
  /^\/ip4\//,
  // fe80::/10 needs an interface's name, which differs from machine to machine
  /^\/ip6\/(?!fe[89ab])/i,
];
const LOOPBACK = /^\/(ip4\/127[.]|ip6\/::1\/|dns[46]?\/localhost\/)/;

export function joinAddresses(addresses: readonly string[], peerId: string): JoinAddresses {
  const whole = addresses.map((address) => (address.includes('/p2p/') ? address : `${address}/p2p/${peerId}`));
  const outside = whole.filter((address) => !LOOPBACK.test(address));
  const kind = NETWORKS.find((pattern) => outside.some((address) => pattern.test(address)));
  return {
    network: kind && outside.find((address) => kind.test(address)),
    loopback: whole.find((address) => LOOPBACK.test(address)),
  };
}

export function joinLine(address: string): string {
  return `node start --bootstrap ${shellWord(address)}`;
}
