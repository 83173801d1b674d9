import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startS3 } from '../../infra/local/s3.ts';
import { type S3, s3Client } from '../../shared/s3/client.ts';
import { startMinistack } from './ministack.ts';

/** A real S3 API of its own. One per test file, a bucket per test. */
export interface S3Fixture {
  readonly endpoint: string;
  readonly s3: S3;
  newBucket(): Promise<string>;
  stop(): Promise<void>;
}

const access = { region: 'us-east-1', credentials: { accessKeyId: 'test', secretAccessKey: 'test' } };

/** The local host's, over a directory of its own: `root` holds the buckets. */
export const startLocalS3 = async (): Promise<S3Fixture & { readonly root: string }> => {
  const root = await mkdtemp(join(tmpdir(), 'sluice-s3-'));
  const server = await startS3({ root });
  return {
    root,
    endpoint: server.endpoint,
    s3: s3Client({ ...access, endpoint: server.endpoint }),
    async newBucket() {
      const bucket = randomUUID();
      await mkdir(join(root, bucket));
      return bucket;
    },
    async stop() {
      await server.stop();
      await rm(root, { recursive: true, force: true });
    },
  };
};

/** Another implementation, of what AWS has. */
export const startMinistackS3 = async (): Promise<S3Fixture> => {
  const { endpoint, stop } = await startMinistack();
  return {
    endpoint,
    s3: s3Client({ ...access, endpoint }),
    async newBucket() {
      const bucket = randomUUID();
      const { ok, status } = await fetch(`${endpoint}/${bucket}`, { method: 'PUT' });
      if (!ok) throw new Error(`no bucket: ${status}`);
      return bucket;
    },
    stop,
  };
};
