import { CodedError } from '../../protocol/errors.ts';

/** Everything that can go wrong between two peers, or between a user's addresses and this machine. */
export type NetworkErrorCode =
  /** not an address this program can dial or listen on */
  | 'E_MULTIADDR'
  /** another program listens on the port */
  | 'E_PORT_TAKEN'
  /** the machine does not let us listen there, for another reason */
  | 'E_LISTEN'
  /** no peer answers at an address that a user gave */
  | 'E_BOOTSTRAP'
  /** bytes that are not an Ed25519 private key */
  | 'E_IDENTITY'
  /** the other side trains another run */
  | 'E_OTHER_RUN'
  /** the other side speaks another version of the protocol */
  | 'E_OTHER_VERSION'
  /** the other side does not say hello, or says it wrongly */
  | 'E_NO_HELLO'
  /** no connection to that peer, or it has not said hello */
  | 'E_NOT_CONNECTED'
  /** the stream ended before the answer was there */
  | 'E_STREAM_CLOSED'
  /** the other side took too long */
  | 'E_TIMEOUT'
  /** a queue of ours, or of theirs, is full */
  | 'E_BUSY'
  /** more bytes than the protocol allows */
  | 'E_TOO_LARGE'
  /** bytes that are not what the protocol says */
  | 'E_MALFORMED'
  /** no provider has the blob */
  | 'E_BLOB_UNAVAILABLE'
  /** a provider sent other bytes than those asked for */
  | 'E_BLOB_CORRUPT'
  /** the other side could not answer a request; its own words are in the message */
  | 'E_REFUSED'
  /** the caller's signal, or `stop()` */
  | 'E_ABORTED';

export function networkError(code: NetworkErrorCode, message: string, cause?: unknown): CodedError<NetworkErrorCode> {
  return new CodedError(code, message, cause === undefined ? undefined : { cause });
}

/** A stranger's text, made safe to print: printable characters only, at most `max` of them. */
export function printable(text: string, max: number): string {
  return text.replace(/[^\p{L}\p{N}\p{P}\p{S} ]/gu, ' ').slice(0, max);
}

/** One line on why a dial failed, from libp2p's nested errors. */
export function reasonOf(error: unknown): string {
  const text = allMessages(error).join(' | ');
  if (text.includes('ECONNREFUSED')) return 'connection refused, nothing listens there';
  if (text.includes('EADDRNOTAVAIL')) return 'this machine cannot connect from that address: check --dial-from';
  if (text.includes('ENOTFOUND') || text.includes('EAI_AGAIN')) return 'the host name does not resolve';
  if (/EHOSTUNREACH|ENETUNREACH/.test(text)) return 'no route to the host';
  if (/UnexpectedPeerError|different to the expected|unexpected peer|does not match expected/i.test(text)) {
    return 'another peer answers there, its peer id is not the one in the address';
  }
  if (/timed? ?out|ETIMEDOUT|aborted/i.test(text)) return 'no answer in time';
  // of a handshake libp2p says which byte was wrong, and not that the bytes are another program's
  const handshake = /EncryptionFailedError|MuxerUnavailableError/.test(text);
  if (/ECONNRESET|EPIPE/.test(text) || (handshake && text.includes('reading 0/'))) {
    return 'it closes the connection at once, as no outerloop peer does unless it has too many connections';
  }
  if (handshake) return 'another program listens there, not an outerloop peer';
  return printable(text.split('\n')[0] ?? '', 200) || 'unknown reason';
}

function allMessages(error: unknown, depth = 0): string[] {
  if (depth > 4 || !(error instanceof Error)) return [];
  const nested = error instanceof AggregateError ? error.errors : [];
  return [`${error.name}: ${error.message}`, ...[...nested, error.cause].flatMap((e) => allMessages(e, depth + 1))];
}
