/**
 * Errors with a stable code. Tests and scripts match `code`, never the text; the text names the cause and the fix.
 *
 * One class serves the whole project; each folder declares the union of its own codes, so that a `switch` over them
 * is checked by the compiler.
 */
export class CodedError<Code extends string = string> extends Error {
  readonly code: Code;

  constructor(code: Code, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'CodedError';
    this.code = code;
  }
}

/** One of ours; the system's errors have codes too, but are no answer to a user. */
export function isCoded(error: unknown): error is CodedError {
  return error instanceof CodedError;
}

/** A broken promise of our own code, never the fault of a peer or a user. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`);
}
