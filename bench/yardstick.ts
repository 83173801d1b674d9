import { open } from 'node:fs/promises';
import { constants, zstdCompressSync } from 'node:zlib';

const bytes = 2_090_000;
const times = 20;

/**
 * How fast this machine is now: the median time in ms in which one core compresses the first 2.09 MB of a file, zstd level 1. It
 * was 4.3 on the machine that the goals of RESULTS.md were set on.
 */
export const yardstickMs = async (path: string): Promise<number> => {
  const data = Buffer.alloc(bytes);
  await using file = await open(path);
  await file.read(data, 0, bytes, 0);
  const took = Array.from({ length: times }, () => {
    const startMs = performance.now();
    zstdCompressSync(data, { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
    return performance.now() - startMs;
  });
  return took.sort((a, b) => a - b)[times >> 1]!;
};
