import type { Layout } from '../model.ts';

export const CODEC_NAMES = ['fp32', 'fp16', 'int8', 'sparseloco', 'topk'] as const;
export type CodecName = (typeof CODEC_NAMES)[number];

/** Codes that a codec's `check` throws; a payload that earns one is refused and its author told. */
export type PayloadErrorCode =
  | 'E_PAYLOAD_SIZE' // not the number of bytes that its own prefix and the layout imply
  | 'E_PAYLOAD_FORMAT' // a field, index or bit stream outside its range
  | 'E_PAYLOAD_NOT_FINITE'; // NaN or infinity in a value, scale or table

/**
 * Turns an update (pseudo-gradient plus residual) into bytes and back.
 *
 * A codec has no state. What it leaves out is `update - decode(encode(update))`, which the replica keeps as residual
 * (error feedback). Encoding is deterministic; decoding uses only + - * / and Math.fround, so that all peers agree.
 */
export interface Codec {
  readonly name: CodecName;
  /** beta in `residual <- beta * residual + pseudo-gradient`; 1 keeps everything */
  readonly residualDecay: number;
  /** Upper bound of a payload's size in bytes for this layout, known before any payload is seen. */
  bytesMax(layout: Layout): number;
  /** @param update one value a parameter; must be finite (the replica checks) */
  encode(update: Float32Array, layout: Layout): Uint8Array;
  /**
   * The exact size in bytes of the payload that begins with these bytes, from its prefix and the layout alone, so that a
   * wrong length is refused before anything is decoded or allocated.
   * @throws CodedError<PayloadErrorCode>
   */
  sizeOf(payload: Uint8Array, layout: Layout): number;
  /**
   * Every check that makes `decode` safe: size, ranges, finiteness. Allocates nothing that grows with claimed sizes.
   * @throws CodedError<PayloadErrorCode>
   */
  check(payload: Uint8Array, layout: Layout): void;
  /** Overwrites all of `out` (one value a parameter) with the decoded update. Call `check` first. */
  decode(payload: Uint8Array, layout: Layout, out: Float32Array): void;
}

/** What genesis says of the codec; `k` of every `chunk` values are kept by the sparse ones, `bits` a kept value (topk). */
export interface CodecConfig {
  name: CodecName;
  chunk: number;
  k: number;
  bits: 1 | 2;
}
