/** So many bytes are kept for the next batch; more are left to the garbage collector. */
const keptBytes = 32 * 1024 * 1024;

const free: Buffer[] = [];
let freeBytes = 0;

/**
 * A buffer of at least `length` bytes, which hold anything; give it back when nothing points into it any more. A fresh large buffer per
 * batch costs page faults, and V8 collects garbage after every few of them: most of what a bulk copy would cost.
 */
export const takeBuffer = (length: number): Buffer => {
  let best = -1;
  for (const [i, buffer] of free.entries())
    if (buffer.length >= length && (best < 0 || buffer.length < free[best]!.length)) best = i;
  if (best < 0) return Buffer.allocUnsafeSlow(length);
  const [buffer] = free.splice(best, 1);
  freeBytes -= buffer!.length;
  return buffer!;
};

/** Keeps a buffer for `takeBuffer`. It must be whole (no view), and given once. */
export const giveBuffer = (buffer: Buffer): void => {
  if (freeBytes + buffer.length > keptBytes) return;
  free.push(buffer);
  freeBytes += buffer.length;
};
