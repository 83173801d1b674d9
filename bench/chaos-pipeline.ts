import type { Random } from './chaos-random.ts';

export const connectors = ['c-grown', 'c-arrived', 'c-copy', 'c-latest', 'c-every', 'c-parquet', 'c-lines'];

/** The pipeline, with other numbers of tasks and queues each time. */
export const pipelineOf = (random: Random): object => {
  const tasks = () => random.integer(1, 3);
  const own = { timeout: '10s', deadLetter: true };
  const fields = { id: 'string', n: 'int32', text: 'string' };
  const file = { topic: 'rows', keyFields: ['id'], fields };
  const table = { url: '${env:SLUICE_POSTGRES_URL}' };
  return {
    name: 'c',
    topics: {
      rows: { queues: random.pick([2, 4, 8]), retention: '15m' },
      copied: { queues: random.pick([2, 4, 8]), retention: '15m' },
    },
    sources: {
      grown: {
        connector: 'file',
        every: '1m',
        tasks: tasks(),
        ...own,
        config: { ...file, path: 'in/*.jsonl', follow: true },
      },
      arrived: {
        connector: 'file',
        trigger: { s3: 'inbox', prefix: 'in/' },
        tasks: tasks(),
        ...own,
        config: { ...file, path: 's3://inbox/in/*.jsonl' },
      },
    },
    processors: { copy: { from: ['rows'], to: 'copied', tasks: tasks(), ...own } },
    sinks: {
      latest: { connector: 'postgres', from: ['rows'], tasks: tasks(), ...own, config: { ...table, table: 'latest' } },
      every: {
        connector: 'postgres',
        from: ['rows'],
        tasks: tasks(),
        ...own,
        config: { ...table, table: 'every', mode: 'insert' },
      },
      parquet: {
        connector: 'file',
        from: ['copied'],
        trigger: { backlog: { bytes: '256KiB', atMost: '1m' } },
        tasks: tasks(),
        ...own,
        config: { path: 's3://lake/', format: 'parquet' },
      },
      lines: { connector: 'file', from: ['rows'], tasks: tasks(), ...own, config: { path: 'lines' } },
    },
  };
};
