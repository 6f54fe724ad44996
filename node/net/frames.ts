import './polyfill.ts';
import type { Stream } from '@libp2p/interface';
import { messageStreamToDuplex } from '@libp2p/utils';
import { decode, encode } from 'it-length-prefixed';
import { pipe } from 'it-pipe';
import { networkError } from './errors.ts';

export interface FramesInit {
  /** longest frame the other side may send, bytes */
  frameBytesMax: number;
  /** bytes that may wait unread. Default: one frame of the longest kind and its prefix */
  unreadBytesMax?: number;
  /** frames that may wait to be sent @default 1 */
  queueMax?: number;
  /** called on every piece that arrives, whole frame or not */
  onProgress?: () => void;
}

/** Bytes of a length prefix, an unsigned varint; our frames are under 2^28 bytes. */
const PREFIX_BYTES_MAX = 4;

interface Outgoing {
  bytes: Uint8Array;
  sent: () => void;
  failed: (error: Error) => void;
}

/**
 * Length-prefixed frames over one libp2p stream, in both directions: it-pipe with it-length-prefixed.
 *
 * libp2p 3 has no backpressure for readers: what arrives piles up in memory however slowly it is read. So bytes that
 * have come and are not read yet are counted, and a sender that goes beyond what the protocol lets it send unasked is
 * cut off. Writers do wait: `write` resolves when the stream has taken the frame.
 */
export class Frames {
  readonly #stream: Stream;
  readonly #frameBytesMax: number;
  readonly #queueMax: number;
  readonly #incoming: AsyncIterator<{ length: number; subarray(): Uint8Array }>;
  readonly #outgoing: Outgoing[] = [];
  #wake: () => void = () => {};
  #closed = false;
  #unread = 0;

  /** Call it in the same tick as the stream is given: what happens to a stream before is not seen. */
  constructor(stream: Stream, { frameBytesMax, unreadBytesMax, queueMax, onProgress }: FramesInit) {
    this.#stream = stream;
    this.#frameBytesMax = frameBytesMax;
    this.#queueMax = queueMax ?? 1;
    const unreadMax = unreadBytesMax ?? frameBytesMax + PREFIX_BYTES_MAX;
    stream.addEventListener('message', ({ data }) => {
      this.#unread += data.byteLength;
      onProgress?.();
      if (this.#unread > unreadMax) this.abort(networkError('E_TOO_LARGE', `over ${unreadMax} bytes sent unasked`));
    });
    stream.addEventListener('close', () => this.#end(), { once: true });
    const received = pipe(
      this.#drain(),
      (source) => encode(source, { maxDataLength: Number.MAX_SAFE_INTEGER }),
      messageStreamToDuplex(stream),
      (source) => decode(source, { maxDataLength: frameBytesMax, maxLengthLength: PREFIX_BYTES_MAX }),
    );
    this.#incoming = received[Symbol.asyncIterator]();
    if (stream.status !== 'open') this.#end();
  }

  get open(): boolean {
    return !this.#closed && this.#stream.status === 'open';
  }

  /**
   * The next frame, or undefined when the other side has ended the stream.
   * @throws CodedError `E_TOO_LARGE` (the stream is then reset), `E_STREAM_CLOSED`
   */
  async read(): Promise<Uint8Array | undefined> {
    try {
      const { done, value } = await this.#incoming.next();
      if (done) return undefined;
      this.#unread -= value.length + prefixBytes(value.length);
      return plain(value.subarray());
    } catch (cause) {
      const tooLarge = (cause as { code?: string }).code?.startsWith('ERR_MSG_') === true;
      const error = tooLarge
        ? networkError('E_TOO_LARGE', `a frame of more than ${this.#frameBytesMax} bytes`, cause)
        : networkError('E_STREAM_CLOSED', 'the other side closed the stream', cause);
      this.abort(error);
      throw error;
    }
  }

  /**
   * @param bytes at least one; not to be changed until the promise resolves
   * @throws CodedError `E_BUSY` when `queueMax` frames wait, `E_STREAM_CLOSED`
   */
  write(bytes: Uint8Array): Promise<void> {
    if (!this.open) return Promise.reject(networkError('E_STREAM_CLOSED', 'the stream is closed'));
    if (this.#outgoing.length >= this.#queueMax) {
      return Promise.reject(networkError('E_BUSY', `${this.#queueMax} frames wait to be sent already`));
    }
    return new Promise((sent, failed) => {
      this.#outgoing.push({ bytes, sent, failed });
      this.#wake();
    });
  }

  /** Ends our side, after what was written; the other side may still send. */
  close(): void {
    this.#closed = true;
    this.#wake();
  }

  /** Drops the stream, with all that waits in it. */
  abort(error: Error): void {
    this.#stream.abort(error);
    this.#end();
  }

  #end(): void {
    this.#closed = true;
    this.#wake();
    const error = networkError('E_STREAM_CLOSED', 'the other side closed the stream');
    for (const frame of this.#outgoing.splice(0)) frame.failed(error);
  }

  async *#drain(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const frame = this.#outgoing[0];
      if (frame) {
        yield frame.bytes;
        // resumed: the stream has taken the frame and has room again
        if (this.#outgoing[0] === frame) this.#outgoing.shift();
        frame.sent();
      } else if (this.#closed) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}

/** The same bytes without the surprises of a Node Buffer, whose `slice` does not copy. */
export function plain(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function prefixBytes(length: number): number {
  let bytes = 1;
  for (let rest = length; rest >= 128; rest = Math.floor(rest / 128)) bytes++;
  return bytes;
}
