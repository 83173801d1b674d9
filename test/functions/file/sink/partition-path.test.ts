import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { pathPart } from '../../../../functions/file/partition-path.ts';
import { batchOf, type RecordInput } from '../../../../shared/connect/build.ts';
import type { Schema, Struct, Value } from '../../../../shared/connect/schema.ts';
import { texts } from '../../../shared/connect/canonical-values.ts';
import { openSink, putOnce } from './put.ts';
import { readRows, temporaryDirectory, visibleFiles } from './read-files.ts';

const directoriesOf = async (partitionBy: string[], records: readonly RecordInput[]) => {
  const { path, remove } = await temporaryDirectory();
  try {
    const { rejected } = await putOnce({ path, partitionBy }, records);
    const files = await visibleFiles(path);
    return {
      directories: files.map((file) => file.slice(0, file.lastIndexOf('/'))),
      rows: await readRows(path),
      rejected,
    };
  } finally {
    await remove();
  }
};

const recordsOf = (values: readonly Value[], types?: Record<string, Schema>): RecordInput[] =>
  values.map((value) => ({
    topic: 'orders',
    value,
    valueSchema:
      types === undefined
        ? undefined
        : { type: 'struct', fields: Object.entries(types).map(([name, schema]) => ({ name, schema })) },
  }));

const timestamp = { at: { type: 'timestamp', optional: true } } as const;

test('parts of the record timestamp', async () => {
  const at = (timestampMs: number | undefined): RecordInput => ({
    topic: 'orders',
    value: { a: 1 },
    ...(timestampMs === undefined ? {} : { timestampMs }),
  });
  const records = [Date.UTC(2024, 1, 29, 23), Date.UTC(2024, 2, 1), -1, undefined].map(at);
  const { directories } = await directoriesOf(['year()', 'month()', 'day()', 'hour()'], records);
  expect(directories).toEqual([
    'orders/year=1969/month=1969-12/day=1969-12-31/hour=1969-12-31-23',
    'orders/year=2024/month=2024-02/day=2024-02-29/hour=2024-02-29-23',
    'orders/year=2024/month=2024-03/day=2024-03-01/hour=2024-03-01-00',
    ...[`orders/${['year', 'month', 'day', 'hour'].map((unit) => `${unit}=__HIVE_DEFAULT_PARTITION__`).join('/')}`],
  ]);
});

test('parts of a timestamp field, before 1970 and beyond the year 9999 too', async () => {
  const values = ['2024-02-29T23:59:59.9Z', '+012024-03-01T00:00:00Z', '0001-01-01T05:00:00Z', null].map((at) => ({
    at,
  }));
  const { directories } = await directoriesOf(['month(at)', 'hour(at)'], recordsOf(values, timestamp));
  expect(directories).toEqual([
    'orders/month=+012024-03/hour=+012024-03-01-00',
    'orders/month=0001-01/hour=0001-01-01-05',
    'orders/month=2024-02/hour=2024-02-29-23',
    'orders/month=__HIVE_DEFAULT_PARTITION__/hour=__HIVE_DEFAULT_PARTITION__',
  ]);
});

test('a date has days and no hours', async () => {
  const records = recordsOf([{ at: '2024-02-29' }], { at: { type: 'date' } });
  expect((await directoriesOf(['day(at)'], records)).directories).toEqual(['orders/day=2024-02-29']);
  await expect(directoriesOf(['hour(at)'], records)).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringContaining('declare at as a timestamp'),
  });
});

test('an undeclared time is refused, with the remedy', async () => {
  await expect(directoriesOf(['day(at)'], recordsOf([{ at: '2024-02-29' }]))).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringContaining('the field at of topic orders is any?'),
  });
});

test('fields of every kind, declared or not; records keep their order and the field', async () => {
  const values: Struct[] = [
    { country: 'DE', n: 1 },
    { country: 'FR', n: 2 },
    { country: 'DE', n: 3 },
    { n: 4 },
    { country: 7, n: 5 },
    { country: true, n: 6 },
  ];
  const { directories, rows } = await directoriesOf(['country'], recordsOf(values));
  expect(directories).toEqual([
    'orders/country=7',
    'orders/country=DE',
    'orders/country=FR',
    'orders/country=__HIVE_DEFAULT_PARTITION__',
    'orders/country=true',
  ]);
  expect(rows.map(({ value }) => value)).toEqual([values[4], values[0], values[2], values[1], values[3], values[5]]);
});

test('a value that is no text and no number is a row error; a type that never is one is a mistake in the config', async () => {
  const { rows, rejected } = await directoriesOf(['a'], recordsOf([{ a: 1 }, { a: { b: 1 } }, { a: [2] }]));
  expect(rejected.map(({ index }) => index)).toEqual([1, 2]);
  expect(rows).toHaveLength(1);
  const bytes = recordsOf([{ a: Buffer.from('x') }], { a: { type: 'bytes' } });
  await expect(directoriesOf(['a'], bytes)).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
});

test('a name that no directory can have is a row error', async () => {
  const { rejected, rows } = await directoriesOf(['a'], recordsOf([{ a: 'ü'.repeat(127) }, { a: 'x'.repeat(252) }]));
  expect(rejected).toMatchObject([
    { index: 0, error: { blame: 'row', message: expect.stringContaining('256 bytes') } },
  ]);
  expect(rows).toHaveLength(1);
});

test('one put takes what fits into 200 directories', async () => {
  const { path, remove } = await temporaryDirectory();
  try {
    const take = async (partitionBy: string[], values: readonly Value[]) =>
      (await openSink({ path, partitionBy })).take?.(batchOf(recordsOf(values)));
    const distinct = (count: number) => Array.from({ length: count }, (_, a) => ({ a }));
    expect(await take(['a'], distinct(200))).toBe(200);
    expect(await take(['a'], [...distinct(100), ...distinct(100), ...distinct(300)])).toBe(400);
    expect(await take([], distinct(300))).toBeUndefined();
  } finally {
    await remove();
  }
});

test('no text leads out of the directory, hides a file, or meets another one', async () => {
  const hostile = fc.oneof(
    fc.constantFrom('..', '.', '../../etc/passwd', '/', '/etc', 'a/b', 'a\\b', '%2F', '.hidden', '\u0000', 'x=y', 'C:'),
    texts,
  );
  await fc.assert(
    fc.property(hostile, (text) => {
      const part = pathPart(text);
      expect(part).not.toMatch(/[/\\\p{Cc}]|^\.|^$/u);
      if (text !== '') expect(decodeURIComponent(part.replace(/%(?![0-9A-F]{2})/g, '%25'))).toBe(text);
    }),
  );
  const fitting = hostile.filter((text) => Buffer.byteLength(pathPart(text)) <= 250);
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(fitting, { minLength: 1, maxLength: 6 }), async (values) => {
      const { path, remove } = await temporaryDirectory();
      try {
        const root = join(path, 'inner', 'root');
        await putOnce(
          { path: root, partitionBy: ['a'] },
          recordsOf(
            values.map((a) => ({ a })),
            { a: { type: 'string' } },
          ),
        );
        expect(await readdir(join(path, 'inner'))).toEqual(['root']);
        expect(await readdir(path)).toEqual(['inner']);
        const rows = await readRows(root);
        expect(rows.map(({ value }) => (value as { a: string }).a).sort()).toEqual([...values].sort());
        expect(new Set(rows.map(({ file }) => file)).size).toBe(values.length);
      } finally {
        await remove();
      }
    }),
    { numRuns: 25 },
  );
});

test('a topic is one directory, whatever its name', async () => {
  const { path, remove } = await temporaryDirectory();
  try {
    const topics = ['..', '.', '.staging', 'orders', 'a'.repeat(200)];
    await putOnce(
      { path },
      topics.map((topic) => ({ topic, value: { topic } })),
    );
    expect((await visibleFiles(path)).map((file) => file.split('/')[0]).sort()).toEqual(
      ['%2E', '%2E.', '%2Estaging', 'a'.repeat(200), 'orders'].sort(),
    );
  } finally {
    await remove();
  }
});
