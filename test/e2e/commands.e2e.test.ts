import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type PostgresServer, startPostgres } from '../kit/postgres-server.ts';
import { jsonLinesOf, queryRows } from '../kit/rows.ts';
import {
  type Envelope,
  envelopeOf,
  makeWorkplace,
  messageOf,
  type Running,
  repository,
  type Workplace,
} from '../kit/sluice.ts';
import { until } from '../kit/until.ts';

const timeout = 180_000;
let postgres: PostgresServer;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres?.stop());

const pipeline = `name: p
topics: { rows: { queues: 2 } }
sources:
  rows: { connector: file, every: 1m, config: { path: rows.jsonl, topic: rows, follow: true } }
sinks:
  pg:
    connector: postgres
    from: [rows]
    config: { url: '\${env:SLUICE_POSTGRES_URL}' }
  out: { connector: file, from: [rows], config: { path: out } }
`;
const ids = ['1', '2', '90071992547409931'];

let place: Workplace;
beforeEach(async () => {
  place = await makeWorkplace();
  await queryRows(postgres.url, 'drop table if exists rows, sluice_offsets');
  await place.file('rows.jsonl', ids.map((id) => `{"id":${id}}\n`).join(''));
  await place.file('p.yaml', pipeline);
});
afterEach(() => place[Symbol.asyncDispose]());

const env = () => ({ SLUICE_POSTGRES_URL: postgres.url });

/** A command's envelope; its plain form says no stack trace and ends with the same code. */
const ask = async (...args: readonly string[]): Promise<Envelope & { readonly code: number | undefined }> => {
  const ended = await place.sluice([...args, '--json']);
  const envelope = envelopeOf(ended);
  expect(envelope.command).toBe(args.slice(0, /^(topics|offsets|connectors)$/.test(args[0]!) ? 2 : 1).join(' '));
  expect(envelope.ok).toBe(ended.code === 0);
  return { ...envelope, code: ended.code };
};
const okay = async (...args: readonly string[]): Promise<unknown> => {
  const { code, result, error } = await ask(...args);
  expect(code, JSON.stringify(error)).toBe(0);
  return result;
};
const refused = async (code: number, says: RegExp, ...args: readonly string[]): Promise<void> => {
  const answer = await ask(...args);
  expect(answer.code).toBe(code);
  expect(answer.error?.message).toMatch(says);
  const plain = await place.sluice(args);
  expect(messageOf(plain)).toMatch(says);
  expect(plain.code).toBe(code);
};

const inTable = async () => Number((await queryRows(postgres.url, 'select count(*) from rows'))[0]![0]);
const inFiles = async () => (await jsonLinesOf(place.path('out/rows'))).length;

/** What looks. The same whether something runs or not. */
const look = async (): Promise<void> => {
  const status = (await okay('status')) as { name: string; connector: { state: string } }[];
  expect(status.map(({ name, connector }) => [name, connector.state])).toEqual(
    ['p-out', 'p-pg', 'p-rows'].map((name) => [name, 'RUNNING']),
  );
  expect(status[1]).toMatchObject({
    type: 'sink',
    plugin: 'postgres',
    lagRecords: 0,
    tasks: [{ id: 0, state: 'RUNNING', records: 3 }],
  });
  expect(await okay('topics', 'list')).toMatchObject([{ name: 'rows', records: 3, retentionMs: 604_800_000 }]);
  expect(await okay('topics', 'describe', 'rows')).toMatchObject({
    name: 'rows',
    queues: [{ queue: 0 }, { queue: 1 }],
  });
  const tail = await place.sluice(['topics', 'tail', 'rows', '--json']);
  expect(envelopeOf(tail).result).toHaveLength(3);
  // A double would make it …930.
  expect(tail.stdout).toContain('{"id":90071992547409931}');
  expect(await okay('topics', 'tail', 'rows', '--limit', '1', '--from-beginning')).toHaveLength(1);
  expect(await okay('offsets', 'get', 'p-rows')).toMatchObject({ offsets: [{ offset: { line: 3 } }], pending: [] });
  await refused(2, /no connector nope.*sluice status/, 'offsets', 'get', 'nope');
  await refused(2, /no connector nope.*sluice status/, 'connectors', 'pause', 'nope');
  await refused(2, /no topic nope/, 'topics', 'describe', 'nope');
  await refused(3, /p-out is started: `sluice connectors stop p-out` first/, 'offsets', 'reset', 'p-out');
};

/** Offsets that the state table owns move at once, those of PostgreSQL with the next run. */
const moveOffsets = async (): Promise<void> => {
  for (const name of ['p-out', 'p-pg'])
    expect(await okay('connectors', 'stop', name)).toEqual({ name, target: 'STOPPED' });
  expect(await okay('offsets', 'reset', 'p-out')).toEqual({ name: 'p-out', how: 'changed' });
  const { offsets } = (await okay('offsets', 'get', 'p-pg')) as { offsets: { partition: object; offset: object }[] };
  for (const { partition } of offsets)
    expect(await okay('offsets', 'set', 'p-pg', JSON.stringify(partition), 'null')).toEqual({
      name: 'p-pg',
      how: 'pending',
    });
  expect(await okay('offsets', 'get', 'p-pg')).toMatchObject({
    pending: offsets.map(({ partition }) => ({ partition, offset: null })),
  });
  await refused(2, /expected a partition and an offset as JSON/, 'offsets', 'set', 'p-pg', '{', 'null');
  for (const name of ['p-out', 'p-pg'])
    expect(await okay('connectors', 'resume', name)).toEqual({ name, target: 'STARTED' });
};

describe('commands', () => {
  test('while nothing runs', { timeout }, async () => {
    expect((await place.sluice(['run', 'p.yaml'], env())).code).toBe(0);
    await look();
    await moveOffsets();
    const again = await place.sluice(['run', 'p.yaml'], env());
    expect(again.code, messageOf(again)).toBe(0);
    expect([await inTable(), await inFiles()]).toEqual([6, 6]);
    expect(place.processes()).toEqual([]);
  });

  test('while `sluice dev` runs', { timeout }, async () => {
    const dev: Running = place.start(['dev', 'p.yaml'], env());
    await until(async () => (await inTable().catch(() => 0)) === 3 && (await inFiles().catch(() => 0)) === 3, {
      timeoutMs: 90_000,
    });
    // The run that wrote them releases its lease after that.
    await until(
      async () => ((await okay('status')) as { lagRecords?: number }[]).every(({ lagRecords = 0 }) => lagRecords === 0),
      { timeoutMs: 30_000 },
    );
    await look();
    await until(async () => (await ask('connectors', 'pause', 'p-pg')).ok);
    await appendFile(place.path('rows.jsonl'), '{"id":4}\n');
    expect(await okay('connectors', 'restart', 'p-rows')).toEqual({ name: 'p-rows', restarted: 0 });
    await until(async () => (await inFiles()) === 4, { timeoutMs: 30_000 });
    expect(await inTable()).toBe(3);
    expect(await okay('connectors', 'resume', 'p-pg')).toEqual({ name: 'p-pg', target: 'STARTED' });
    await until(async () => (await inTable()) === 4, { timeoutMs: 30_000 });
    await until(async () => {
      await Promise.all(['p-out', 'p-pg'].map((name) => okay('connectors', 'stop', name)));
      return (await ask('offsets', 'get', 'p-pg')).ok;
    });
    await moveOffsets();
    await until(async () => (await inTable()) === 8 && (await inFiles()) === 8, { timeoutMs: 30_000 });
    dev.kill('SIGTERM');
    expect((await dev.ended).code).toBe(130);
    await until(() => place.processes().length === 0);
  });

  test('where nothing has run: it is said, and nothing is made', async () => {
    for (const args of [['status'], ['topics', 'list'], ['offsets', 'get', 'p-pg']])
      await refused(2, /nothing has run here yet: `sluice run FILE` first/, ...args);
    expect((await place.sluice(['status'])).code).toBe(2);
    await expect(jsonLinesOf(place.path('state'))).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('validate and infer', async () => {
    expect(await okay('validate', 'p.yaml')).toEqual({ files: ['p.yaml'] });
    await place.file('bad.yaml', pipeline.replace('path: out', 'pat: out'));
    await refused(2, /bad\.yaml:10: sinks\.out\.config\.pat: unrecognized key "pat"/, 'validate', 'p.yaml', 'bad.yaml');
    const movies = join(repository, 'node_modules/vega-datasets/data/movies.json');
    expect(await okay('infer', movies)).toMatchObject({
      fields: {
        Title: 'string?',
        'Worldwide Gross': 'int64?',
        'Release Date': { type: 'date', format: 'MMM d yyyy' },
        'IMDB Votes': 'int32?',
      },
      notes: [expect.stringMatching(/Title: 9 of 3201/)],
    });
    await refused(2, /gone\.json/, 'infer', 'gone.json');
    const unknown = await place.sluice(['conectors', 'list']);
    expect(unknown.code).toBe(2);
  });
});
