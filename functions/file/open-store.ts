import { ConnectError } from '../../shared/connect/errors.ts';
import { type S3, s3Client } from '../../shared/s3/client.ts';
import { directoryReader } from './directory-reader.ts';
import { directoryWriter } from './directory-writer.ts';
import { parseS3 } from './path-config.ts';
import { s3Reader } from './s3-reader.ts';
import { s3Writer } from './s3-writer.ts';
import type { FileStore, OpenStore } from './store.ts';

export const directoryStore: FileStore = { reader: directoryReader, writer: directoryWriter };

export const s3Store = (s3: S3): FileStore => ({
  reader: (config) => s3Reader(s3, config),
  writer: (root, own) => s3Writer(s3, root, own),
});

export const openStore: OpenStore = (path) => {
  if (parseS3(path) !== undefined) return s3Store(s3Client());
  if (process.env.AWS_LAMBDA_FUNCTION_NAME !== undefined && process.env.SLUICE_LOCAL !== '1')
    throw new ConnectError(
      'CONFIG_INVALID',
      `${path} is a local path, and what a function on AWS has there is gone with it: give s3://bucket/prefix/`,
    );
  return directoryStore;
};
