import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { startS3 } from '../../../infra/local/s3.ts';
import { type S3, s3Client } from '../../../shared/s3/client.ts';
import { type S3Fixture, startMinistackS3 } from '../../kit/s3.ts';

export interface Bucket {
  readonly s3: S3;
  readonly name: string;
}

/** The S3 API of the local host, for the tests of one file, and ways to make buckets and clients of it. */
export const useLocalS3 = () => {
  let root: string;
  let server: Awaited<ReturnType<typeof startS3>>;
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'sluice-file-s3-'));
    // An access key says what it may not do.
    const denies = (key: string, action: string) => key.split('~').includes(action.replace(':', '_'));
    server = await startS3({
      root,
      authorize: (key, action) =>
        denies(key, action) ? { reason: 'denied', message: `not allowed: ${action}` } : undefined,
    });
  });
  afterAll(async () => {
    await server.stop();
    await rm(root, { recursive: true });
  });
  return {
    async makeBucket(): Promise<Bucket> {
      const name = `test-${randomUUID()}`;
      await mkdir(join(root, name));
      return { s3: clientOf(server.endpoint), name };
    },
    dropBucket: ({ name }: Bucket) => rm(join(root, name), { recursive: true }),
    without: (actions: readonly string[]): S3 =>
      clientOf(server.endpoint, ['test', ...actions].join('~').replaceAll(':', '_')),
  };
};

/** Another implementation of S3, for the tests of one file. */
export const useMinistackS3 = () => {
  let server: S3Fixture;
  beforeAll(async () => {
    server = await startMinistackS3();
  }, 120_000);
  afterAll(() => server.stop());
  return { makeBucket: async (): Promise<Bucket> => ({ s3: server.s3, name: await server.newBucket() }) };
};

const clientOf = (endpoint: string, accessKeyId = 'test'): S3 =>
  s3Client({ endpoint, region: 'us-east-1', credentials: { accessKeyId, secretAccessKey: 'test' } });

/** The keys of a bucket that begin so, in order. */
export const keysIn = async ({ s3, name }: Bucket, prefix = ''): Promise<string[]> => {
  const keys: string[] = [];
  for await (const page of s3.list(name, prefix)) keys.push(...page.map(({ key }) => key));
  return keys;
};
