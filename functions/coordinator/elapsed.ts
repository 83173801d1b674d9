/**
 * How long ago that was. A time that is still to come was written by a clock that was wrong (a function's, by an hour): nothing waits until it
 * comes, so it counts as that far away.
 */
export const elapsedMs = (nowMs: number, atMs = 0): number => Math.abs(nowMs - atMs);
