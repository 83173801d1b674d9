import { randomUUID } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { fileSink } from '../../../functions/file/file-sink.ts';
import { fileSource } from '../../../functions/file/file-source.ts';
import type { SinkTask, SourceTask } from '../../../shared/connect/connector.ts';
import { logSink } from '../../../shared/log/append.ts';
import { memoryObjects } from '../../../shared/log/objects.ts';
import { logSource } from '../../../shared/log/read.ts';
import { systemClock } from '../../../shared/runtime/clock.ts';
import { runTask } from '../../../shared/runtime/run.ts';
import { defaultErrorPolicy } from '../../../shared/state/connectors.ts';
import { memoryTable } from '../../../shared/state/memory/table.ts';

const movies = resolve(import.meta.dirname, '../../../node_modules/vega-datasets/data/movies.json');

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'sluice-movies-'));
});
afterAll(() => rm(directory, { recursive: true }));

it('3,201 movies go from a file through the log into a file, as they were', async () => {
  const table = memoryTable();
  const objects = memoryObjects();
  const signal = new AbortController().signal;
  const run = (connector: string, openSource: () => Promise<SourceTask<unknown>>, openSink: () => Promise<SinkTask>) =>
    runTask({
      identity: { connector, incarnation: 'i1', deployment: 'test' },
      taskId: 0,
      requestId: randomUUID(),
      table,
      budget: { maxRecords: 1_000, maxBytes: 1 << 22 },
      errors: defaultErrorPolicy,
      transforms: [],
      openSource,
      openSink,
      stillCurrent: async () => true,
      stop: signal,
      abort: signal,
      leaseExpiresAtMs: Date.now() + 60_000,
      clock: systemClock,
      newId: randomUUID,
      log: () => {},
    });
  const open = (connector: string) => ({
    connector,
    incarnation: 'i1',
    deployment: 'test',
    taskId: 0,
    tasks: 1,
    signal,
  });

  const read = await run(
    'source',
    async () =>
      (await fileSource.open({
        ...open('source'),
        config: fileSource.config.parse({ path: movies, topic: 'movies' }),
      })) as SourceTask<unknown>,
    async () => logSink({ table, objects, owner: { connector: 'source', incarnation: 'i1' } }),
  );
  expect(read).toMatchObject({ outcome: 'drained', records: 3_201, rejected: 0, batches: 4 });

  const written = await run(
    'sink',
    async () => logSource({ table, objects, topics: ['movies'], task: 0, tasks: 1 }) as SourceTask<unknown>,
    () => fileSink.open({ ...open('sink'), config: fileSink.config.parse({ path: directory, format: 'jsonl' }) }),
  );
  expect(written).toMatchObject({ outcome: 'drained', records: 3_201, rejected: 0 });

  const files = (await readdir(join(directory, 'movies'))).sort();
  const lines = (await Promise.all(files.map((file) => readFile(join(directory, 'movies', file), 'utf8')))).join('');
  const expected = JSON.parse(await readFile(movies, 'utf8'));
  expect(
    lines
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line)),
  ).toEqual(expected);
});
