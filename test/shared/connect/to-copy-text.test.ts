import fc from 'fast-check';
import { expect, test } from 'vitest';
import { batchOf, columnOf } from '../../../shared/connect/build.ts';
import type { Schema, Struct } from '../../../shared/connect/schema.ts';
import { createTextOutput, written } from '../../../shared/connect/text-output.ts';
import { toCopyText } from '../../../shared/connect/to-copy-text.ts';
import { flatColumn } from '../../../shared/connect/to-json-lines.ts';

const schemas = {
  small: { type: 'int32' },
  large: { type: 'int64' },
  float: { type: 'float64' },
  flag: { type: 'boolean' },
  text: { type: 'string' },
  raw: { type: 'bytes' },
  json: { type: 'array', items: { type: 'string' } },
} as const satisfies { [name: string]: Schema };

const valueSchema: Schema = {
  type: 'struct',
  fields: Object.entries(schemas).map(([name, schema]) => ({ name, schema: { ...schema, optional: true } })),
};

const cells = {
  small: fc.integer(),
  large: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  float: fc.double(),
  flag: fc.boolean(),
  text: fc.oneof(
    fc.string({ unit: 'grapheme' }),
    fc.string({ unit: fc.constantFrom('\\', '\t', '\n', '\r', 'N', '.', '\b', '\v', '"', '') }),
  ),
  raw: fc.uint8Array(),
  json: fc.array(fc.string({ unit: 'grapheme' })),
};
const rows = fc.array(
  fc.oneof(
    { weight: 9, arbitrary: fc.record(cells, { requiredKeys: [] }) },
    { weight: 1, arbitrary: fc.constant(null) },
  ),
  {
    minLength: 1,
    maxLength: 20,
  },
);

/** COPY's text format, read by its documentation: fields between tabs, `\N` for null, backslash escapes. */
const readCopyText = (text: string): (string | null)[][] => {
  const lines = text.split('\n');
  expect(lines.pop()).toBe('');
  const letters: { [letter: string]: string } = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' };
  const unescaped = (field: string) => field.replace(/\\(.)/gs, (_, letter: string) => letters[letter] ?? letter);
  return lines.map((line) => line.split('\t').map((field) => (field === '\\N' ? null : unescaped(field))));
};

const expectedText = (name: string, value: unknown): string | null => {
  if (value === undefined || value === null) return null;
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString('hex')}`;
  if (typeof value === 'boolean') return value ? 't' : 'f';
  if (name === 'json') return JSON.stringify(value);
  return Object.is(value, -0) ? '-0' : String(value);
};

const textOf = (values: readonly (Struct | null)[], from = 0, to = values.length): string => {
  const [group] = batchOf(values.map((value) => ({ topic: 't', value, valueSchema }))).groups;
  const out = createTextOutput(1);
  const { columns, nulls } = group!.value;
  toCopyText(
    columns.map((column) => ({ column: flatColumn(column, values.length), nulls })),
    from,
    to,
    out,
  );
  return Buffer.from(written(out)).toString();
};

test('what COPY reads is what the columns hold', () => {
  fc.assert(
    fc.property(rows, (values) => {
      const expected = values.map((value) =>
        Object.keys(schemas).map((name) => expectedText(name, (value as Struct | null)?.[name])),
      );
      expect(readCopyText(textOf(values as (Struct | null)[]))).toEqual(expected);
    }),
    { numRuns: 300 },
  );
});

test('the lines of two ranges are the lines of the whole', () => {
  fc.assert(
    fc.property(rows, fc.nat(), (values, at) => {
      const structs = values as (Struct | null)[];
      const cut = at % structs.length;
      expect(textOf(structs, 0, cut) + textOf(structs, cut)).toBe(textOf(structs));
    }),
  );
});

test('what the data holds where there is no value does not matter', () => {
  fc.assert(
    fc.property(fc.array(fc.option(fc.string()), { minLength: 1 }), fc.nat(), (texts, garbage) => {
      const column = columnOf('text', { type: 'string', optional: true }, texts);
      if (column.kind !== 'bytes') throw new Error(`a string column is of kind ${column.kind}`);
      const starts = column.starts.map((start, i) => (texts[i] === null ? garbage : start));
      const ends = column.ends.map((end, i) => (texts[i] === null ? garbage + 7 : end));
      const out = createTextOutput();
      toCopyText([{ column: { ...column, starts, ends } }], 0, texts.length, out);
      expect(readCopyText(Buffer.from(written(out)).toString())).toEqual(texts.map((text) => [text]));
    }),
  );
});

test('a text of backslash, dot is not the end of the data', () => {
  const [group] = batchOf([{ topic: 't', value: '\\.', valueSchema: { type: 'string' } }]).groups;
  const out = createTextOutput();
  toCopyText([{ column: flatColumn(group!.value.columns[0]!, 1) }], 0, 1, out);
  expect(Buffer.from(written(out)).toString()).toBe('\\\\.\n');
});

test.each([
  [{ type: 'int32' }, -(2 ** 31), '-2147483648'],
  [{ type: 'int64' }, -(2n ** 63n), '-9223372036854775808'],
  [{ type: 'float64' }, -2.2250738585072014e-308, '-2.2250738585072014e-308'],
  [{ type: 'boolean' }, true, 't'],
  [{ type: 'string' }, '\t\n\r\\', '\\t\\n\\r\\\\'],
  [{ type: 'bytes' }, Buffer.from([0, 255]), '\\\\x00ff'],
  [{ type: 'string', optional: true }, null, '\\N'],
] as const)('there is room for the longest texts of %j', (schema, value, text) => {
  const out = createTextOutput(1);
  toCopyText([{ column: flatColumn(columnOf('c', schema, [value, value]), 2) }], 0, 2, out);
  expect(Buffer.from(written(out)).toString()).toBe(`${text}\n${text}\n`);
});
