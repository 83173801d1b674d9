/**
 * Frees a large array that nobody reads any more, and all views of its memory, at once. It may be freed already. V8 sees little garbage where a few objects hold
 * megabytes: left to it, each batch's buffers cost a full collection and fresh pages from the kernel, which is more than copying them.
 */
export const freeBuffer = ({ buffer }: ArrayBufferView): void => {
  // A small one lies in memory that others share. One that was freed has no length.
  if (buffer instanceof ArrayBuffer && buffer.byteLength > Buffer.poolSize) buffer.transfer(0);
};

/** The same memory as a Buffer, whose `copy` needs no view of the part that it copies. */
export const bufferOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Buffer =>
  Buffer.from(buffer, byteOffset, byteLength);

/** Up to so many bytes a loop beats a call that copies them. */
export const shortCopy = 32;
