import { describe, expect, test } from 'vitest';
import { mysqlCdcSource } from '../../../functions/mysql/cdc-source.ts';
import { partitionKey } from '../../../shared/connect/connector.ts';
import { createRunner, type OffsetMap, type SourceFixture } from '../../kit/source-runner.ts';
import { useMysql } from './cdc-fixture.ts';

const stream = partitionKey({ server: 'shop' });

describe.each(['mariadb', 'mysql'] as const)('the lag of a source of %s', (flavour) => {
  const server = useMysql(flavour);
  const { run, database, fixture, contextOf } = server;

  /** A table whose rows are read, and what the source says of where it stands. */
  const started = async () => {
    const name = await database();
    await run('CREATE TABLE t (id int PRIMARY KEY, text longtext)');
    const config = { tables: [`${name}.t`] };
    const of = { ...fixture(config), expected: [] } as SourceFixture;
    const { withTask, readAll } = createRunner(of);
    const read = async (from: OffsetMap = new Map()) => (await withTask((task) => readAll(task, from))).offsets;
    const lag = (offsets: OffsetMap) =>
      mysqlCdcSource.lag!(contextOf(config), {
        get: (partition) => offsets.get(partitionKey(partition))?.offset as never,
        all: () => [...offsets.values()] as never,
      });
    return { read, lag };
  };
  /** As if the server had written the next events so long ago. */
  const atTime = async (agoMs: number, sql: string) => {
    await run(`SET timestamp = ${Math.floor((Date.now() - agoMs) / 1000)}`);
    await run(sql);
    await run('SET timestamp = DEFAULT');
  };
  const keep = (seconds: number) => run(`SET GLOBAL binlog_expire_logs_seconds = ${seconds}`);

  test('is nothing at the end of the log, and nothing is known before the first run', async () => {
    const { read, lag } = await started();
    expect(await lag(new Map())).toEqual({});
    expect(await lag(await read())).toMatchObject({ bytes: 0, behindMs: 0 });
  });

  test('is the bytes to the end of the log, over its files, and the age of the oldest change', async () => {
    const { read, lag } = await started();
    const offsets = await read();
    await atTime(3_600_000, `INSERT INTO t VALUES (1, REPEAT('x', 100000))`);
    const one = await lag(offsets);
    expect(one.bytes).toBeGreaterThan(100_000);
    expect(one.bytes).toBeLessThan(110_000);
    expect(one.behindMs).toBeGreaterThanOrEqual(3_600_000);
    expect(one.behindMs).toBeLessThan(3_700_000);
    await run(`FLUSH BINARY LOGS; INSERT INTO t VALUES (2, REPEAT('x', 50000))`);
    const two = await lag(offsets);
    expect(two.bytes).toBeGreaterThan(one.bytes! + 50_000);
    expect(two.behindMs).toBeGreaterThanOrEqual(3_600_000);
    expect(await lag(await read(offsets))).toMatchObject({ bytes: 0, behindMs: 0 });
  });

  test('tells when the file of its place is purged, and how much of that time is over', async () => {
    const { read, lag } = await started();
    await keep(1_000_000);
    const offsets = await read();
    expect((await lag(offsets)).retained).toMatchObject({ share: 0, text: expect.stringMatching(/is the newest/) });
    await atTime(750_000_000, `INSERT INTO t VALUES (1, 'x')`);
    await atTime(750_000_000, 'FLUSH BINARY LOGS');
    const { share, text } = (await lag(offsets)).retained!;
    expect(share).toBeCloseTo(0.75, 3);
    expect(text).toMatch(
      /^the server purges binlog\.\d+, from which it has to go on, at 20.*Z: have it run, or SET GLOBAL/,
    );
    await keep(0);
    expect((await lag(offsets)).retained).toBeUndefined();
  });

  test('is all of what the server keeps where the file of its place is gone', async () => {
    const { read, lag } = await started();
    const offsets = await read();
    const { partition, offset } = offsets.get(stream)!;
    const gone = new Map([[stream, { partition, offset: { ...(offset as object), file: 'binlog.000000' } }]]);
    expect((await lag(gone as OffsetMap)).retained).toMatchObject({
      share: 1,
      text: expect.stringMatching(/has purged/),
    });
    const elsewhere = new Map([[stream, { partition, offset: { ...(offset as object), server: 'another' } }]]);
    expect(await lag(elsewhere as OffsetMap)).toEqual({});
  });

  test('disturbs no run that reads the log', async () => {
    const { read, lag } = await started();
    const offsets = await read();
    await run(`INSERT INTO t VALUES (1, 'x')`);
    const [, later] = await Promise.all([Promise.all(Array.from({ length: 5 }, () => lag(offsets))), read(offsets)]);
    expect(await lag(later)).toMatchObject({ bytes: 0 });
  });
});
