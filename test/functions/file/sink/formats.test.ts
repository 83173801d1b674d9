import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { parquetReadObjects } from 'hyparquet';
import { describe, expect, test } from 'vitest';
import { unscaled } from '../../../../functions/file/parquet-text.ts';
import { FileSinkConfig } from '../../../../functions/file/sink-config.ts';
import { batchOfGroups, type Column, type RecordBatch } from '../../../../shared/connect/batch.ts';
import type { RecordInput } from '../../../../shared/connect/build.ts';
import { parseJson, writeJson } from '../../../../shared/connect/json.ts';
import type { Schema, Struct, Value } from '../../../../shared/connect/schema.ts';
import { canonicalTypes, everyType } from '../../../shared/connect/canonical-values.ts';
import { expectedText, readText } from './parquet-texts.ts';
import { type ConfigInput, putOnce } from './put.ts';
import { readParquet, readRows, temporaryDirectory, visibleFiles } from './read-files.ts';

type Written = { readonly root: string; readonly files: readonly string[]; read(): Promise<Buffer> };

/** Puts one batch into a directory of its own and looks at what is there. */
const withPut = async (
  config: Omit<ConfigInput, 'path'>,
  records: readonly RecordInput[] | RecordBatch,
  look: (written: Written, result: Awaited<ReturnType<typeof putOnce>>) => Promise<void>,
) => {
  const { path: root, remove } = await temporaryDirectory();
  try {
    const result = await putOnce({ path: root, ...config }, records);
    const files = await visibleFiles(root);
    await look({ root, files, read: () => readFile(join(root, files[0]!)) }, result);
  } finally {
    await remove();
  }
};

const recordsOf = (values: readonly Value[], valueSchema?: Schema, topic = 'orders'): RecordInput[] =>
  values.map((value) => ({ topic, value, valueSchema }));

const fieldSchema = (fields: Record<string, Schema>): Schema => ({
  type: 'struct',
  fields: Object.entries(fields).map(([name, schema]) => ({ name, schema })),
});

const parquet = { format: 'parquet' } as const;

describe('jsonl', () => {
  test('rows of every type come back exactly', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(everyType.rows, { minLength: 1, maxLength: 10 }), async (rows) => {
        await withPut({ compression: 'gzip' }, recordsOf(rows, everyType.schema), async ({ root, files }) => {
          expect(files).toHaveLength(1);
          const seen = await readRows(root);
          expect(seen).toHaveLength(rows.length);
          for (const [i, { value }] of seen.entries())
            for (const { name, schema } of everyType.schema.fields) {
              const expected = Object.hasOwn(rows[i]!, name) ? jsonOf(schema, rows[i]![name]!) : undefined;
              expect(Object.hasOwn(value as Struct, name) ? (value as Struct)[name] : undefined).toEqual(expected);
            }
        });
      }),
      { numRuns: 30 },
    );
  });

  test('values that are no structs are lines of JSON', async () => {
    await withPut({}, recordsOf([1, 'two', [3], { four: 4 }]), async ({ root }) => {
      expect((await readRows(root)).map(({ value }) => value)).toEqual([1, 'two', [3], { four: 4 }]);
    });
  });
});

/** What a reader that keeps numbers exact gets from JSON lines. */
const jsonOf = (schema: Schema, value: Value): Value => {
  if (value === null || Object.is(value, -0)) return value;
  return parseJson(schema.type === 'decimal' ? String(value).replace(/^(-?)0+(?=\d)/, '$1') : writeJson(value));
};

describe('csv', () => {
  test('a header, and the columns of all schemas in the order they were first seen', async () => {
    const records = [...recordsOf([{ a: 1, b: '' }]), ...recordsOf([{ c: 'x,y', a: null }])];
    await withPut({ format: 'csv' }, records, async ({ files, read }) => {
      expect(files).toEqual([expect.stringMatching(/^orders\/orders-\d{13}-[0-9a-f]{8}\.csv$/)]);
      expect(String(await read())).toBe('a,b,c\n1,"",\n,,"x,y"\n');
    });
  });
});

describe('text', () => {
  test('lines as they are', async () => {
    const lines = ['one', '', '"two", three\r', '🦆'];
    await withPut({ format: 'text' }, recordsOf(lines, { type: 'string' }), async ({ files, read }) => {
      expect(files[0]).toMatch(/\.txt$/);
      expect(String(await read())).toBe(`${lines.join('\n')}\n`);
    });
  });

  test('a line break within a line is a row error', async () => {
    await withPut(
      { format: 'text' },
      recordsOf(['a', 'b\nc', 'd'], { type: 'string' }),
      async ({ root }, { rejected }) => {
        expect(rejected).toMatchObject([
          { index: 1, error: { blame: 'row', message: expect.stringContaining('line break') } },
        ]);
        expect((await readRows(root)).map(({ value }) => value)).toEqual(['a', 'd']);
      },
    );
  });

  test('anything but strings is a mistake in the config', async () => {
    await expect(withPut({ format: 'text' }, recordsOf([{ a: 1 }]), async () => {})).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      blame: 'system',
      message: expect.stringContaining('struct<a: any?>'),
    });
  });
});

describe('parquet', () => {
  test('rows of every type come back exactly', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(everyType.rows, { minLength: 1, maxLength: 40 }),
        fc.constantFrom('none', 'snappy'),
        async (rows, compression) => {
          await withPut(
            { format: 'parquet', compression },
            recordsOf(rows, everyType.schema),
            async ({ read }, { rejected }) => {
              expect(rejected).toEqual([]);
              const file = await readParquet(await read());
              const { fields } = everyType.schema;
              expect(file.schema.map(({ name }) => name)).toEqual(fields.map(({ name }) => name));
              expect(file.rows.map((row) => row.map((v, i) => readText(fields[i]!.schema, v)))).toEqual(
                rows.map((row) =>
                  fields.map(({ name, schema }) =>
                    expectedText(schema, Object.hasOwn(row, name) ? (row[name] as Value) : undefined),
                  ),
                ),
              );
            },
          );
        },
      ),
      { numRuns: 60 },
    );
  });

  test.each(Object.entries(canonicalTypes))('a column of %s alone', async (_type, { schema, values }) => {
    await fc.assert(
      fc.asyncProperty(fc.array(values, { minLength: 1, maxLength: 60 }), async (column) => {
        await withPut(
          parquet,
          recordsOf(
            column.map((f) => ({ f })),
            fieldSchema({ f: schema }),
          ),
          async ({ read }) => {
            const { rows } = await readParquet(await read());
            expect(rows.map(([v]) => readText(schema, v))).toEqual(column.map((v) => expectedText(schema, v)));
          },
        );
      }),
      { numRuns: 15 },
    );
  });

  test('a zero keeps its sign among equal ones', async () => {
    const column = Array.from({ length: 100 }, (_, i) => (i % 2 === 0 ? 0 : -0));
    const rows = column.map((f) => ({ f, g: f }));
    const schema = fieldSchema({ f: { type: 'float64' }, g: { type: 'float32' } });
    await withPut(parquet, recordsOf(rows, schema), async ({ read }) => {
      expect((await readParquet(await read())).rows).toEqual(column.map((f) => [f, f]));
    });
  });

  test('the types are those that an engine reads', async () => {
    const schema = fieldSchema({
      id: { type: 'int64' },
      name: { type: 'string' },
      price: { type: 'decimal', precision: 9, scale: 2 },
      digits: { type: 'decimal' },
      day: { type: 'date' },
      at: { type: 'timestamp' },
      wall: { type: 'timestamp', local: true },
      clock: { type: 'time' },
      tags: { type: 'array', items: { type: 'string' } },
    });
    const value = {
      id: 1n,
      name: 'é',
      price: '12.50',
      digits: '1.10',
      day: '2024-02-29',
      at: '2024-02-29T23:59:59.123Z',
      wall: '2024-02-29T23:59:59',
      clock: '00:00:01.5',
      tags: ['a'],
    };
    await withPut(parquet, recordsOf([value], schema), async ({ read }) => {
      const bytes = await read();
      const file = new Uint8Array(bytes).buffer;
      expect(await parquetReadObjects({ file })).toEqual([
        {
          id: 1n,
          name: 'é',
          price: 12.5,
          digits: '1.10',
          day: new Date('2024-02-29'),
          at: new Date('2024-02-29T23:59:59.123Z'),
          wall: new Date('2024-02-29T23:59:59Z'),
          clock: 1_500_000n,
          tags: '["a"]',
        },
      ]);
      const types = Object.fromEntries((await readParquet(bytes)).schema.map((s) => [s.name, s.logical_type]));
      expect(types).toMatchObject({
        price: { type: 'DECIMAL', precision: 9, scale: 2 },
        at: { type: 'TIMESTAMP', isAdjustedToUTC: true, unit: 'MICROS' },
        wall: { type: 'TIMESTAMP', isAdjustedToUTC: false, unit: 'MICROS' },
        clock: { type: 'TIME', unit: 'MICROS' },
        tags: { type: 'JSON' },
      });
    });
  });

  test('what it cannot hold exactly is a row error, and the rest is written', async () => {
    const schema = fieldSchema({
      n: { type: 'int32' },
      at: { type: 'timestamp', optional: true },
      day: { type: 'date', optional: true },
      clock: { type: 'time', optional: true },
      real: { type: 'float32', optional: true },
    });
    const rows: Struct[] = [
      { n: 0, at: '2024-02-29T00:00:00.123456Z' },
      { n: 1, at: '2024-02-29T00:00:00.1234567Z' },
      { n: 2, at: '2024-02-29T00:00:00.123456000Z' },
      { n: 3, at: '2016-12-31T23:59:60Z' },
      { n: 4, at: '+999999-12-31T00:00:00Z' },
      { n: 5, day: '2023-02-29' },
      { n: 6, day: '-0001-12-31' },
      { n: 7, clock: '24:00:00' },
      { n: 8, clock: '00:00:00.0000001' },
      { n: 9, real: 1e300 },
      { n: 10 },
    ];
    await withPut(parquet, recordsOf(rows, schema), async ({ read }, { rejected, committed }) => {
      expect(committed).toBe(true);
      expect(rejected.map(({ index }) => index)).toEqual([1, 3, 4, 5, 7, 8, 9]);
      for (const { error } of rejected) expect(error).toMatchObject({ blame: 'row', code: 'RECORD_REJECTED' });
      expect(rejected[0]!.error.message).toContain('field at: 2024-02-29T00:00:00.1234567Z');
      const file = await readParquet(await read());
      expect(file.rows.map(([n]) => n)).toEqual([0, 2, 6, 10]);
      expect(file.rows[2]![2]).toBe(-719529);
    });
  });

  test('a rejected record has its index in the batch, however the rows were spread', async () => {
    const schema = fieldSchema({ part: { type: 'string' }, day: { type: 'date' } });
    const days = ['2024-02-29', '2024-02-30', '2024-02-29', '2024-02-30'];
    const values = ['a', 'b'].flatMap((topic) => days.map((day, i) => ({ topic, part: i < 3 ? 'x' : 'y', day })));
    const records = values.map(({ topic, part, day }) => ({ topic, value: { part, day }, valueSchema: schema }));
    await withPut({ ...parquet, partitionBy: ['part'] }, records, async ({ root }, { rejected }) => {
      expect(rejected.map(({ index }) => index)).toEqual([1, 3, 5, 7]);
      expect(await readRows(root)).toHaveLength(4);
    });
  });

  test('a decimal that does not fit its declared digits is refused, also straight from a driver', () => {
    expect(unscaled(5, 2)('-123.45')).toBe(-12345n);
    expect(unscaled(5, 2)('000123.4')).toBe(12340n);
    for (const text of ['1234.5', '1.234', 'NaN', '', '1e3'])
      expect(() => unscaled(5, 2)(text)).toThrow('decimal(5,2)');
  });

  test('one file has the columns of all schemas; one name with two types needs two files', async () => {
    const records = [
      ...recordsOf([{ a: 1n, b: 'x' }], fieldSchema({ a: { type: 'int64' }, b: { type: 'string' } })),
      ...recordsOf([{ a: 2n, c: true }], fieldSchema({ a: { type: 'int64', optional: true }, c: { type: 'boolean' } })),
      ...recordsOf([{ a: 'three' }], fieldSchema({ a: { type: 'string' } })),
      ...recordsOf([{ a: 4n, b: 'y' }], fieldSchema({ a: { type: 'int64' }, b: { type: 'string' } })),
    ];
    await withPut(parquet, records, async ({ root, files }) => {
      expect(files).toHaveLength(2);
      const rows = (await readRows(root)).map(({ value }) => value);
      expect(rows).toEqual(
        expect.arrayContaining([
          { a: 1n, b: 'x', c: null },
          { a: 2n, b: null, c: true },
          { a: 4n, b: 'y', c: null },
          { a: 'three' },
        ]),
      );
      expect(rows).toHaveLength(4);
    });
  });

  test('row groups are bounded', async () => {
    const rows = Array.from({ length: 100_001 }, () => ({ a: true }));
    await withPut(parquet, recordsOf(rows, fieldSchema({ a: { type: 'boolean' } })), async ({ read }) => {
      const { metadata } = await readParquet(await read());
      expect(metadata.row_groups.map(({ num_rows }) => num_rows)).toEqual([100_000n, 1n]);
    });
  });

  test('records without fields are row errors', async () => {
    for (const format of ['parquet', 'csv'] as const)
      await withPut({ format }, recordsOf([{}, {}]), async ({ files }, { rejected, committed }) => {
        expect(rejected.map(({ index }) => index)).toEqual([0, 1]);
        expect({ files, committed }).toEqual({ files: [], committed: false });
      });
  });
});

describe('every format', () => {
  test.each(['csv', 'parquet'] as const)('%s has no value where the JSON text of a source is null', async (format) => {
    const data = Buffer.from('null"x"');
    const schema: Schema = { type: 'any', optional: true };
    const common = { kind: 'bytes', schema, data, starts: Uint32Array.of(0, 4), ends: Uint32Array.of(4, 7) } as const;
    const columns: Column[] = [
      { ...common, name: 'a' },
      { ...common, name: 'b', starts: common.starts.toReversed(), ends: common.ends.toReversed() },
    ];
    const group = { topic: 'orders', count: 2, value: { schema: fieldSchema({ a: schema, b: schema }), columns } };
    await withPut({ format }, batchOfGroups([group]), async ({ root }) => {
      const x = format === 'csv' ? 'x' : '"x"';
      expect((await readRows(root)).map(({ value }) => value)).toEqual([
        { a: null, b: x },
        { a: x, b: null },
      ]);
    });
  });

  test.each(['jsonl', 'csv', 'parquet'] as const)('%s refuses tombstones, and says what to do', async (format) => {
    const records = [...recordsOf([{ a: 1 }, null]), ...recordsOf([null, { a: 2 }], undefined, 'customers')];
    await withPut({ format }, records, async ({ root, files }, { rejected }) => {
      expect(files.map((file) => file.split('/')[0])).toEqual(['customers', 'orders']);
      expect(rejected.map(({ index }) => index)).toEqual([1, 2]);
      expect(rejected[0]!.error.message).toMatch(/topic orders is a tombstone.*leave tombstones out by a transform/);
      expect(await readRows(root)).toHaveLength(2);
    });
  });

  test('the config names what does not go together', () => {
    const problems = (config: object) =>
      FileSinkConfig.safeParse({ path: 'x', ...config }).error?.issues.map(
        ({ path, message }) => `${path}: ${message}`,
      );
    expect(problems({ format: 'parquet', compression: 'snappy' })).toBeUndefined();
    expect(problems({ format: 'csv', compression: 'snappy' })).toEqual([
      expect.stringContaining('compression: snappy'),
    ]);
    expect(problems({ format: 'parquet', compression: 'gzip' })).toEqual([
      expect.stringContaining('compression: snappy'),
    ]);
    expect(problems({ partitionBy: ['day()', 'day(at)'] })).toEqual([expect.stringContaining('one directory name')]);
    expect(problems({ partitionBy: ['week()'] })).toEqual([expect.stringContaining('partitionBy')]);
  });
});
