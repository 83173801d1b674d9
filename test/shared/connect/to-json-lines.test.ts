import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { BytesColumn, RecordGroup } from '../../../shared/connect/batch.ts';
import { batchOf } from '../../../shared/connect/build.ts';
import { parseJson, writeJson } from '../../../shared/connect/json.ts';
import type { Schema, Value } from '../../../shared/connect/schema.ts';
import { createTextOutput, written } from '../../../shared/connect/text-output.ts';
import { toJsonLines } from '../../../shared/connect/to-json-lines.ts';
import { canonicalTypes, everyType } from './canonical-values.ts';

const linesOf = (groups: readonly RecordGroup[]): string[] => {
  // A small buffer, so that it must grow.
  const out = createTextOutput(8);
  for (const group of groups) toJsonLines(group, out);
  const text = Buffer.from(written(out)).toString();
  expect(text.endsWith('\n')).toBe(true);
  return text.slice(0, -1).split('\n');
};

const groupsOf = (values: readonly Value[], valueSchema?: Schema) =>
  batchOf(values.map((value) => ({ topic: 't', value, valueSchema }))).groups;

const lineOf = (value: Value, schema?: Schema) => linesOf(groupsOf([value], schema))[0];

/** A column over JSON or decimal text as a source has it, which `batchOf` would have tidied. */
const rawColumn = (text: string, schema: Schema): RecordGroup => {
  const data = Buffer.from(text);
  const column: BytesColumn = {
    kind: 'bytes',
    name: '',
    schema,
    data,
    starts: Uint32Array.of(0),
    ends: Uint32Array.of(data.length),
  };
  return { topic: 't', count: 1, value: { schema, columns: [column] } };
};

/** Decimals are numbers in JSON lines; writeJson knows only their text. */
const expectedText = (schema: Schema, value: Value): string => {
  if (value !== null && schema.type === 'decimal') return String(value).replace(/^(-?)0+(?=\d)/, '$1');
  return Object.is(value, -0) ? '-0' : writeJson(value);
};

describe('toJsonLines', () => {
  test.each(Object.entries(canonicalTypes))(
    '%s: the text of each value is writeJson’s',
    (_type, { schema, values }) => {
      fc.assert(
        fc.property(fc.array(values, { minLength: 1 }), (column) => {
          expect(linesOf(groupsOf(column, schema))).toEqual(column.map((value) => expectedText(schema, value)));
        }),
      );
    },
  );

  test('rows of every type: fields in schema order, null told from missing', () => {
    fc.assert(
      fc.property(fc.array(everyType.rows, { minLength: 1, maxLength: 20 }), (rows) => {
        const lines = linesOf(groupsOf(rows, everyType.schema));
        expect(lines).toHaveLength(rows.length);
        for (const [i, row] of rows.entries()) {
          const members = everyType.schema.fields
            .filter(({ name }) => Object.hasOwn(row, name))
            .map(({ name, schema }) => `${JSON.stringify(name)}:${expectedText(schema, row[name]!)}`);
          expect(lines[i]).toBe(`{${members.join(',')}}`);
          parseJson(lines[i]!);
        }
      }),
    );
  });

  test('undeclared values come back as they were', () => {
    for (const value of [{ a: 1, b: null, c: { d: [1, 2n ** 64n] } }, [1, 'two'], 'text', 7, true, {}] as Value[])
      expect(parseJson(lineOf(value)!)).toEqual(value);
  });

  test('a null value is null', () => {
    expect(linesOf(groupsOf([{ a: 1 }, null, { a: 2 }]))).toEqual(['{"a":1}', 'null', '{"a":2}']);
  });

  test('pretty-printed JSON stays one line and one value', () => {
    const value = { text: 'a\\n"b"\nc', list: [1, { deep: '\r\n' }], '\n': null };
    for (const source of [JSON.stringify(value, null, 2), JSON.stringify(value, null, '\r\n\t')]) {
      const lines = linesOf([rawColumn(source, { type: 'any' })]);
      expect(lines).toHaveLength(1);
      expect(JSON.parse(lines[0]!)).toEqual(value);
      expect(lines[0]).not.toContain('\r');
    }
  });

  test('a decimal has its exact digits, and no text that JSON has no number for', () => {
    const decimal = { type: 'decimal' } as const;
    const cases = {
      '12.50': '12.50',
      '000.10': '0.10',
      '-007': '-7',
      '00': '0',
      NaN: '"NaN"',
      '-Infinity': '"-Infinity"',
    };
    for (const [text, expected] of Object.entries(cases))
      expect(linesOf([rawColumn(text, decimal)])).toEqual([expected]);
  });

  test('what is written after a full buffer stays', () => {
    const values = Array.from({ length: 2_000 }, (_, i) => ({ id: BigInt(i), text: 'ü'.repeat(i % 100) }));
    const lines = linesOf(
      groupsOf(values, {
        type: 'struct',
        fields: [
          { name: 'id', schema: { type: 'int64' } },
          { name: 'text', schema: { type: 'string' } },
        ],
      }),
    );
    expect(lines.map((line) => JSON.parse(line))).toEqual(values.map(({ id, text }) => ({ id: Number(id), text })));
  });
});
