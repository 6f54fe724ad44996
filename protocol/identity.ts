import { base58btc } from 'multiformats/bases/base58';
import { CodedError } from './errors.ts';

/** A libp2p peer id of an Ed25519 key, in its base58 text form (`12D3KooW…`). Peers are ordered by this text. */
export type PeerId = string;

/** Signing and verifying, given by the driver: the same Ed25519 (RFC 8032) in the node and in the simulator. */
export interface Signer {
  readonly self: PeerId;
  /** 64-byte Ed25519 signature by `self` */
  sign(bytes: Uint8Array): Uint8Array;
  /** @param publicKey 32 raw bytes */
  verify(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean;
}

/** identity multihash (0x00, 36 bytes) of a protobuf {type: Ed25519, 32-byte key}: libp2p peer-id specification */
const PREFIX = Uint8Array.of(0x00, 0x24, 0x08, 0x01, 0x12, 0x20);

export function peerIdOf(publicKey: Uint8Array): PeerId {
  const bytes = new Uint8Array(PREFIX.length + 32);
  bytes.set(PREFIX);
  bytes.set(publicKey, PREFIX.length);
  return base58btc.baseEncode(bytes);
}

/** @throws CodedError `E_PEER_ID` unless it is the id of an Ed25519 key */
export function publicKeyOf(peer: PeerId): Uint8Array {
  const known = publicKeys.get(peer);
  if (known) return known;
  let bytes: Uint8Array;
  try {
    if (peer.length > 64) throw new RangeError('too long');
    bytes = base58btc.baseDecode(peer);
  } catch (cause) {
    throw new CodedError('E_PEER_ID', 'not a peer id of an Ed25519 key', { cause });
  }
  if (bytes.length !== PREFIX.length + 32 || PREFIX.some((byte, i) => bytes[i] !== byte)) {
    throw new CodedError('E_PEER_ID', 'not a peer id of an Ed25519 key');
  }
  const key = bytes.slice(PREFIX.length);
  // a key has one name: what else decodes to it would be a member beside it, or be no id to another program
  if (peerIdOf(key) !== peer) throw new CodedError('E_PEER_ID', 'not a peer id as it is written');
  if (publicKeys.size >= PUBLIC_KEYS_CACHED) publicKeys.clear();
  publicKeys.set(peer, key);
  return key;
}

/** Decoding base58 costs more than the lookups around it; bounded, since strangers' ids pass here too. */
const PUBLIC_KEYS_CACHED = 8192;
const publicKeys = new Map<PeerId, Uint8Array>();

export function comparePeers(a: PeerId, b: PeerId): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
