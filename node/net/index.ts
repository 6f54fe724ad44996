export type { BlobSource } from './blob-server.ts';
export type { NetworkErrorCode } from './errors.ts';
export type { BlobReference, BlobSink, FetchBlobComponents } from './fetch-blob.ts';
export { type FetchedGenesis, type FetchGenesisInit, fetchGenesis, unreachable } from './fetch-genesis.ts';
export type { Verdict } from './gossip.ts';
export { DEFAULT_LISTEN, type TransportWrapper } from './host.ts';
export { createIdentity, type Identity, identityFromBytes, identityToBytes, verifySignature } from './identity.ts';
export { NET_LIMITS } from './limits.ts';
export type { PeerChange } from './members.ts';
export {
  Network,
  type NetworkComponents,
  type NetworkCounters,
  type NetworkInit,
  type RunReference,
} from './network.ts';
export type { Timers } from './peer-book.ts';
