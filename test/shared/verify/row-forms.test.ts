import { describe, expect, test } from 'vitest';
import type { Column } from '../../../shared/connect/batch.ts';
import { columnOf } from '../../../shared/connect/build.ts';
import { ExactNumber, type Schema, type Value } from '../../../shared/connect/schema.ts';
import type { VerifiedTable } from '../../../shared/connect/verify.ts';
import { createSums, rowForms } from '../../../shared/verify/row-forms.ts';

const tableOf = (...types: readonly Schema['type'][]): VerifiedTable => ({
  table: 't',
  topic: 't',
  key: ['c0'],
  columns: types.map((type, i) => ({ name: `c${i}`, type })),
});

const formsOf = (table: VerifiedTable, columns: readonly Column[], count = 1) =>
  Array.from(rowForms(table)({ columns, count }), (form) => ({
    hash: form.hash.toString('hex'),
    key: form.key(),
    bucket: form.bucket,
  }));

const id = columnOf('c0', { type: 'int32' }, [1]);
const hashOf = (type: Schema['type'], kept: Schema, value: Value): string =>
  formsOf(tableOf('int32', type), [id, columnOf('c1', kept, [value])])[0]!.hash;

const decimal: Schema = { type: 'decimal' };
const string: Schema = { type: 'string' };

describe('a value of the source is the same, however a database keeps it', () => {
  test.each<readonly [Schema['type'], Schema, Value, Schema, Value]>([
    ['int64', { type: 'int64' }, 9007199254740993n, decimal, '9007199254740993.000'],
    ['int16', { type: 'int32' }, -7, string, '-7'],
    ['decimal', decimal, '-007.50', decimal, '-7.5'],
    ['decimal', decimal, '-0.00', { type: 'int32' }, 0],
    ['boolean', { type: 'boolean' }, true, { type: 'int8' }, 1],
    ['boolean', { type: 'boolean' }, false, string, 'f'],
    ['float32', { type: 'float32' }, Math.fround(0.1), { type: 'float64' }, 0.1],
    ['float64', { type: 'float64' }, 1e21, string, '1000000000000000000000'],
    [
      'timestamp',
      { type: 'timestamp' },
      '2024-02-29T01:02:03.120Z',
      { type: 'timestamp', local: true },
      '2024-02-29T01:02:03.12',
    ],
    ['time', { type: 'time' }, '01:02:03.000000', { type: 'time' }, '01:02:03'],
    ['any', { type: 'any' }, { b: [1e3, null], a: 'ä' }, string, '{"a": "ä", "b": [1000, null]}'],
    ['any', { type: 'any' }, new ExactNumber('1.50e400'), { type: 'any' }, new ExactNumber('15e399')],
    ['uuid', { type: 'uuid' }, '123e4567-e89b-12d3-a456-426614174000', string, '123e4567-e89b-12d3-a456-426614174000'],
  ])('%s', (type, here, value, there, other) => {
    expect(hashOf(type, there, other)).toBe(hashOf(type, here, value));
  });
});

test.each<readonly [string, Schema['type'], Schema, Value, Value]>([
  ['text that differs in case', 'string', string, 'a', 'A'],
  ['text that differs in spaces at the end', 'string', string, 'a', 'a '],
  ['text of a number', 'string', string, '1.0', '1'],
  ['nothing and null', 'string', { ...string, optional: true }, '', null],
  ['numbers that are one double', 'int64', { type: 'int64' }, 9007199254740993n, 9007199254740992n],
  ['order in a list', 'array', { type: 'any' }, [1, 2], [2, 1]],
])('%s is another value', (_, type, kept, one, other) => {
  expect(hashOf(type, kept, one)).not.toBe(hashOf(type, kept, other));
});

test('a value does not run on into the next one', () => {
  const two = (a: string, b: string) =>
    formsOf(tableOf('int32', 'string', 'string'), [id, columnOf('c1', string, [a]), columnOf('c2', string, [b])])[0]!
      .hash;
  expect(two('ab', 'c')).not.toBe(two('a', 'bc'));
  // As the mark and the length of a value stand between two.
  const between = '\u0001\0\0\0\0';
  expect(two(`a${between}b`, '')).not.toBe(two('a', `b${between}`));
});

test('buckets hold the same sums in whatever order rows come, and others where one row differs', () => {
  const table = tableOf('int32', 'string');
  const sumsOf = (ids: readonly number[], changed?: number) => {
    const sums = createSums();
    const texts = ids.map((one) => (one === changed ? 'changed' : `row ${one}`));
    const columns = [columnOf('c0', { type: 'int32' }, ids), columnOf('c1', string, texts)];
    for (const { bucket, hash } of rowForms(table)({ columns, count: ids.length })) sums.add(bucket, hash);
    return sums.all();
  };
  const ids = Array.from({ length: 5_000 }, (_, i) => i);
  expect(sumsOf(ids.toReversed())).toEqual(sumsOf(ids));
  const [a, b] = [sumsOf(ids), sumsOf(ids, 77)];
  const counts = a.map(([bucket, count]) => [bucket, count]);
  expect(b.map(([bucket, count]) => [bucket, count])).toEqual(counts);
  expect(b.filter(([, , sum], i) => sum !== a[i]![2])).toHaveLength(1);
  expect(counts.reduce((sum, [, count]) => sum + count!, 0)).toBe(ids.length);
  // Spread evenly over many: the rows that are listed for a thousand that differ are few.
  expect(a.length).toBeGreaterThan(4_500);
  expect(Math.max(...counts.map(([, count]) => count!))).toBeLessThan(6);
});

test('a key is told in canonical texts, bytes as Latin-1', () => {
  const table = { ...tableOf('bytes', 'timestamp'), key: ['c1', 'c0'] };
  const columns = [
    columnOf('c0', { type: 'bytes' }, [Buffer.from([0, 255])]),
    columnOf('c1', { type: 'timestamp' }, ['2024-01-01T00:00:00.500Z']),
  ];
  expect(formsOf(table, columns)[0]!.key).toEqual(['2024-01-01T00:00:00.5', '\0ÿ']);
});
