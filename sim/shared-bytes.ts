/** A copy in memory that goes from thread to thread without being copied each time. */
export function sharedBytes(content: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(new SharedArrayBuffer(content.length));
  bytes.set(content);
  return bytes;
}
