import './polyfill.ts';
import type { Connection, Stream } from '@libp2p/interface';
import type { PeerId } from '../../protocol/identity.ts';
import { abortedBy } from './deadline.ts';
import { networkError } from './errors.ts';
import { Frames, type FramesInit } from './frames.ts';
import { connectionTo, type Host } from './host.ts';
import { NET_LIMITS } from './limits.ts';
import type { Members } from './members.ts';

export interface StreamComponents {
  host: Host;
  members: Members;
}

/** Bytes of our protocols, without what libp2p adds. */
export interface ByteCounters {
  bytesSent: number;
  bytesReceived: number;
}

/**
 * A new stream to a member.
 * @throws CodedError `E_NOT_CONNECTED`, `E_STREAM_CLOSED`, `E_ABORTED`
 */
export async function openFrames(
  { host, members }: StreamComponents,
  peer: PeerId,
  protocol: string,
  init: FramesInit,
  signal?: AbortSignal,
): Promise<Frames> {
  if (!members.has(peer)) throw networkError('E_NOT_CONNECTED', `not connected to ${peer}`);
  const late = AbortSignal.timeout(NET_LIMITS.dialMs);
  const either = signal ? AbortSignal.any([signal, late]) : late;
  try {
    return new Frames(await connectionTo(host.node, peer).newStream(protocol, { signal: either }), init);
  } catch (cause) {
    if (signal?.aborted) throw abortedBy(signal);
    throw networkError('E_STREAM_CLOSED', `${peer} did not accept a stream for ${protocol}`, cause);
  }
}

/**
 * Waits, as `Members.admitted`, and lets the sender wait too: a stranger must not fill our memory, and who has said
 * hello on its way loses nothing.
 * @throws CodedError `E_TOO_LARGE` if more has come already than may, else as `Members.admitted`
 */
export async function untilAdmitted(stream: Stream, { remotePeer }: Connection, members: Members): Promise<void> {
  const peer = remotePeer.toString();
  if (members.has(peer)) return;
  const { maxReadBufferLength } = stream;
  const { unheardBytesMax } = NET_LIMITS;
  if (stream.readBufferLength > unheardBytesMax) {
    throw networkError('E_TOO_LARGE', `${peer} sent over ${unheardBytesMax} bytes before its hello`);
  }
  // paused, libp2p keeps what comes, asks for no more, and resets the stream of a sender that goes on
  stream.maxReadBufferLength = unheardBytesMax;
  stream.pause();
  await members.admitted(peer);
  if (stream.status !== 'open') return;
  stream.maxReadBufferLength = maxReadBufferLength;
  stream.resume();
}
