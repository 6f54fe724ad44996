import { type Damage, HashedFile } from './hashed-file.ts';

/** The peer may have voted, and must not act as if it had not. */
const DAMAGE: Damage<'E_RECORD_DAMAGED'> = {
  code: 'E_RECORD_DAMAGED',
  message: (path) => `the record of past votes in ${path} is damaged; remove its folder and join again as a new peer`,
};

/** What the peer must still know after a crash before it says anything: its votes, above all. */
export class RecordFile extends HashedFile {
  constructor(path: string) {
    super(path, DAMAGE);
  }
}
