import { CodedError } from '../../protocol/errors.ts';
import type { Genesis } from '../../protocol/genesis.ts';
import type { BlobStore } from '../store/blob-store.ts';
import { readBlob } from '../store/blobs.ts';
import { checkLargeEnough, type Dataset, makeDataset } from './dataset.ts';
import { byteTokenizer, charTokenizerFromBlob, type Tokenizer } from './tokenizer.ts';

/** The tokenizer that genesis names. @throws CodedError `E_BLOB_MISSING`, `E_TOKENIZER_BLOB` */
export async function loadTokenizer({ tokenizer, model }: Genesis, store: BlobStore): Promise<Tokenizer> {
  const made =
    tokenizer.kind === 'byte' ? byteTokenizer() : charTokenizerFromBlob(await readBlob(store, tokenizer.blob));
  if (made.vocabulary > model.vocabulary) {
    const message = `the tokenizer has ${made.vocabulary} tokens, the model ${model.vocabulary}: a broken run`;
    throw new CodedError('E_TOKENIZER_BLOB', message);
  }
  return made;
}

/** The run's text as tokens, from the blobs that genesis names. */
export async function loadDataset(genesis: Genesis, store: BlobStore): Promise<Dataset> {
  const text = await readBlob(store, genesis.data.blob);
  const dataset = makeDataset(text, await loadTokenizer(genesis, store), genesis.data.validationFraction);
  checkLargeEnough(dataset, genesis.model.context);
  return dataset;
}
