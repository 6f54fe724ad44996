import { assert } from '../errors.ts';
import type { Codec, CodecConfig } from './codec.ts';
import { fp16 } from './fp16.ts';
import { fp32 } from './fp32.ts';
import { int8 } from './int8.ts';
import { sparseloco } from './sparseloco.ts';
import { topk } from './topk.ts';

/** The codec that genesis names. The dense ones ignore `chunk`, `k` and `bits`. */
export function codecOf(config: CodecConfig): Codec {
  const { name, chunk, k, bits } = config;
  assert(
    Number.isInteger(k) && Number.isInteger(chunk) && k >= 1 && k <= chunk && chunk <= 4096,
    `codec keeps ${k} of ${chunk}: genesis allows 1 <= k <= chunk <= 4096`,
  );
  switch (name) {
    case 'fp32':
      return fp32;
    case 'fp16':
      return fp16;
    case 'int8':
      return int8;
    case 'sparseloco':
      return sparseloco({ chunk, k });
    case 'topk':
      return topk({ chunk, k, bits });
    default:
      return name satisfies never;
  }
}
