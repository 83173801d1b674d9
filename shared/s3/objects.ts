import { type ObjectStore, objectExists } from '../log/objects.ts';
import type { S3 } from './client.ts';

/** Segment bodies as objects of a bucket. A put whose answer was lost is found out by what is there (invariant 3). */
export const s3Objects = (s3: S3, bucket: string): ObjectStore => ({
  async put(name, bytes) {
    if (!(await s3.put(bucket, name, bytes, { ifAbsent: true }))) throw objectExists(name);
  },
  get: async (name, start, length) => (await s3.get(bucket, name, { start, length }))?.bytes,
});
