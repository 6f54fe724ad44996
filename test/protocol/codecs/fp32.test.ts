import { expect } from 'vitest';
import { fp32 } from '../../../protocol/codecs/fp32.ts';
import { describeCodec, sameBits } from '../../contracts/codec-contract.ts';

describeCodec('fp32', fp32, (update, decoded) => expect(sameBits(decoded, update)).toBe(true));
