import { expect, test } from 'vitest';
import { describeEvolve } from '../../kit/describe-evolve.ts';
import { keyed, putRecords } from '../../kit/put-records.ts';
import { useSink } from './sink-fixture.ts';

const sink = useSink();

describeEvolve('postgres', sink, (expression) => `${expression}::text`);

test.each([
  ['real', 'float64', 0.1, 'double precision'],
  ['bigint', 'float64', 0.5, 'numeric'],
  ['numeric(5,2)', 'float64', 0.125, 'numeric'],
  ['real', 'int32', 16_777_217, 'double precision'],
  ['time(3)', 'time', '12:00:00.000001', 'time without time zone'],
  ['timestamptz(0)', 'timestamp', '2024-01-01T00:00:00.000001Z', 'timestamp with time zone'],
] as const)('widen-only: %s for %s', async (column, type, value, expected) => {
  const { withSink, run, all } = sink;
  await run(`CREATE TABLE t (id integer PRIMARY KEY, n ${column})`);
  await withSink({ evolve: 'widen-only' }, async (task) => {
    expect((await putRecords(task, [keyed(1, { n: value }, { n: type })])).rejected).toEqual([]);
  });
  const [[type_]] = (await all('SELECT pg_typeof(n)::text FROM t')) as [[string]];
  expect(type_).toBe(expected);
});

test('a domain is left as it is', async () => {
  const { withSink, run } = sink;
  await run('CREATE DOMAIN small AS smallint; CREATE TABLE t (id integer PRIMARY KEY, n small)');
  const { rejected } = await withSink({ evolve: 'evolve' }, (task) =>
    putRecords(task, [keyed(1, { n: 70_000 }, { n: 'int32' })]),
  );
  expect(rejected).toHaveLength(1);
});

test('a domain of a time is left as it is too, and stops the task', async () => {
  const { withSink, run } = sink;
  await run('CREATE DOMAIN minutes AS time(0); CREATE TABLE t (id integer PRIMARY KEY, n minutes)');
  await expect(
    withSink({ evolve: 'evolve' }, (task) => putRecords(task, [keyed(1, { n: '12:00:00.5' }, { n: 'time' })])),
  ).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
});
