import { createFileSink, fileSink } from '../../../../functions/file/file-sink.ts';
import { describeSink } from '../../../kit/describe-sink.ts';
import { useLocalS3, useMinistackS3 } from '../s3-bucket.ts';
import { s3Place } from './places.ts';
import type { ConfigInput } from './put.ts';
import { readRows, temporaryDirectory } from './read-files.ts';

const configs: readonly Omit<ConfigInput, 'path'>[] = [
  { format: 'jsonl' },
  { format: 'jsonl', compression: 'gzip', partitionBy: ['id'] },
  { format: 'csv' },
  { format: 'parquet' },
];

for (const config of configs)
  describeSink(`file sink ${Object.values(config).join(' ')}`, async () => {
    const directory = await temporaryDirectory();
    return {
      sink: fileSink,
      config: { path: directory.path, ...config },
      mode: 'append',
      rejects: { topic: 'orders', value: null },
      read: () => readRows(directory.path),
      cleanup: directory.remove,
    };
  });

const makers = { S3: useLocalS3(), 'the S3 of ministack': useMinistackS3() };

// A file takes several requests: there are fewer of them.
for (const [name, { makeBucket }] of Object.entries(makers))
  for (const config of configs.map(({ partitionBy, ...rest }) =>
    partitionBy ? { ...rest, partitionBy: ['n'] } : rest,
  ))
    describeSink(`file sink on ${name}, ${Object.values(config).join(' ')}`, async () => {
      const place = s3Place(await makeBucket());
      return {
        sink: createFileSink(() => place.store),
        config: { path: place.path, ...config },
        mode: 'append',
        rejects: { topic: 'orders', value: null },
        read: place.rows,
      };
    });
