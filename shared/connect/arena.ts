/** A growing buffer that column bytes are appended to. `data` moves when it grows: read it after the last append. */
export interface Arena {
  readonly data: Uint8Array;
  readonly length: number;
  text(text: string): void;
  bytes(bytes: Uint8Array): void;
}

export const createArena = (capacity = 1024): Arena => {
  let buffer = Buffer.allocUnsafe(capacity);
  let length = 0;
  const reserve = (more: number) => {
    if (length + more <= buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(buffer.length * 2, length + more));
    buffer.copy(grown, 0, 0, length);
    buffer = grown;
  };
  return {
    get data() {
      return buffer;
    },
    get length() {
      return length;
    },
    text(text) {
      // A UTF-16 unit becomes at most three bytes.
      reserve(text.length * 3);
      length += buffer.write(text, length, 'utf8');
    },
    bytes(bytes) {
      reserve(bytes.length);
      buffer.set(bytes, length);
      length += bytes.length;
    },
  };
};
