import { fileSink } from '../../../../functions/file/file-sink.ts';
import { describeSink } from '../../../kit/describe-sink.ts';
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
