import type { PageRequest } from '../../protocol/messages.ts';

/** As much of a history as one answer has. */
export const WHOLE: PageRequest = { fromHeight: 0, skip: 0, anchors: 0 };
