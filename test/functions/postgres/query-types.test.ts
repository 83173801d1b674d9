import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { postgresQuerySource } from '../../../functions/postgres/query-source.ts';
import type { Schema, Struct, StructSchema } from '../../../shared/connect/schema.ts';
import { readerOf } from '../../kit/query-server.ts';
import { changeOf, useCdc } from './cdc-fixture.ts';
import { extra, names, types } from './type-values.ts';

describe('types of queries of postgres', () => {
  const { server, schema, run, capture } = useCdc();
  const pollOnce = async (config: object) => {
    const address = () => ({ url: server().url });
    const reader = readerOf({ source: postgresQuerySource, address } as never, {
      mode: 'bulk',
      keyFields: ['id'],
      ...config,
    });
    return reader.withTask((task) => reader.pollOnce(task, new Map(), { maxBytes: 1e9 }));
  };

  test('a value is the same, whether it comes from a table, a query or a change, and so is its schema', async () => {
    await run(`${extra}; CREATE TABLE t (id int PRIMARY KEY, ${names.map((type, i) => `c${i} ${type}`).join(', ')})`);
    const changes = await capture(['t']);
    const rows = fc.sample(fc.tuple(...names.map((type) => fc.option(types[type]![1], { freq: 12 }))), 200);
    for (const [id, row] of rows.entries())
      await run(`INSERT INTO t VALUES (${id}, ${row.map((_, i) => `$${i + 1}`).join(', ')})`, row);
    const told = await changes.withTask((task) => changes.pollOnce(task, new Map(), { maxBytes: 1e9 }));
    const expected = Array.from(told.batch, ({ value }) => changeOf({ key: null, value }).after as Struct);
    const after = (told.batch.groups[0]!.value.schema as StructSchema).fields[1]!.schema as StructSchema;
    expect(expected).toHaveLength(200);
    for (const from of [{ tables: [`${schema()}.t`] }, { query: `SELECT * FROM ${schema()}.t ORDER BY id DESC` }]) {
      const { batch, rejected } = await pollOnce({ ...from, topic: 't' });
      expect(rejected).toBeUndefined();
      const found = Array.from(batch, ({ value }) => value as Struct);
      for (const [i, row] of found.entries()) expect(textOf(row), `row ${i}`).toBe(textOf(expected[i]!));
      expect(found).toHaveLength(200);
      const { fields } = batch.groups[0]!.value.schema as StructSchema;
      expect(fields).toEqual(after.fields.map(({ name, schema: one }) => ({ name, schema: one as Schema })));
    }
  });

  test.each([
    ['char(5)', "'ab'", 'ab   '],
    ['inet', "'10.0.0.1'", '10.0.0.1'],
    ['boolean', 'true', true],
    ['pair', '(NULL, NULL)', '(,)'],
    ['name', "'x'", 'x'],
    ['money', '1.5', '$1.50'],
  ])('a %s is written as by its type, not as it is cast', async (type, literal, value) => {
    await run(
      `CREATE TYPE pair AS (a int, b text); CREATE TABLE t (id int PRIMARY KEY, v ${type}, none ${type}); INSERT INTO t (id, v) VALUES (1, ${literal})`,
    );
    const { batch } = await pollOnce({ tables: [`${schema()}.t`] });
    expect([...batch].map((record) => record.value)).toEqual([{ id: 1, v: value, none: null }]);
  });

  test('rows of many megabytes come in batches', async () => {
    await run(
      `CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t SELECT n, repeat(n::text, 1000000) FROM generate_series(10, 29) n`,
    );
    const address = () => ({ url: server().url });
    const reader = readerOf({ source: postgresQuerySource, address } as never, {
      mode: 'bulk',
      tables: [`${schema()}.t`],
    });
    const sizes: number[] = [];
    const { records } = await reader.withTask((task) =>
      reader.readAll(task, new Map(), { maxBytes: 4_000_000 }, ({ batch }) => sizes.push(batch.count)),
    );
    expect(records.map(({ key, value }) => [(key as Struct).id, ((value as Struct).s as string).length])).toEqual(
      Array.from({ length: 20 }, (_, i) => [i + 10, 2_000_000]),
    );
    expect(Math.max(...sizes)).toBe(2);
  });
});

const textOf = (row: Struct) => inspect(row, { depth: null, maxArrayLength: null, maxStringLength: null });
