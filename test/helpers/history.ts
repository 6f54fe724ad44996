import type { LogRecord, PageRequest } from '../../protocol/messages.ts';
import type { Entry } from '../../protocol/wire.ts';

/** As much of a history as one answer has. */
export const WHOLE: PageRequest = { fromHeight: 0, skip: 0, anchors: 0 };

/** An entry on a state that the peer has not come to. */
export function recordOf(entry: Entry): LogRecord {
  return { entry, snapshot: null };
}
