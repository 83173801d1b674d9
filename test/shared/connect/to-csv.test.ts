import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { RecordGroup } from '../../../shared/connect/batch.ts';
import { batchOf } from '../../../shared/connect/build.ts';
import { parseJson, writeJson } from '../../../shared/connect/json.ts';
import type { Schema, Struct, Value } from '../../../shared/connect/schema.ts';
import { createTextOutput, written } from '../../../shared/connect/text-output.ts';
import { csvColumnNames, csvHeader, toCsv } from '../../../shared/connect/to-csv.ts';
import { everyType } from './canonical-values.ts';
import { readCsv } from './read-csv.ts';

const csvOf = (groups: readonly RecordGroup[], names: readonly string[]): string => {
  const out = createTextOutput(8);
  csvHeader(names, out);
  for (const group of groups) toCsv(group, names, out);
  return Buffer.from(written(out)).toString();
};

const groupsOf = (values: readonly Value[], valueSchema?: Schema) =>
  batchOf(values.map((value) => ({ topic: 't', value, valueSchema }))).groups;

/** The text that a CSV field has for a value. */
const fieldText = (value: Value | undefined): string | null => {
  if (value === null || value === undefined) return null;
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (typeof value === 'object') return writeJson(value);
  return Object.is(value, -0) ? '-0' : String(value);
};

describe('toCsv', () => {
  test('rows of every type come back: null is empty, the empty string is not', () => {
    fc.assert(
      fc.property(fc.array(everyType.rows, { minLength: 1, maxLength: 20 }), (rows) => {
        const groups = groupsOf(rows, everyType.schema);
        const names = csvColumnNames(groups[0]!.value);
        const [header, ...lines] = readCsv(csvOf(groups, names));
        expect(header).toEqual(names);
        expect(lines).toEqual(
          rows.map((row) =>
            everyType.schema.fields.map(({ name }) => fieldText(Object.hasOwn(row, name) ? row[name] : undefined)),
          ),
        );
      }),
    );
  });

  test('only fields that need quotes have them', () => {
    const values: Struct[] = [
      { a: 'plain text', b: 'a,b' },
      { a: '', b: 'say "x"' },
      { a: null, b: 'two\nlines' },
      { b: ' ' },
    ];
    const schema: Schema = {
      type: 'struct',
      fields: ['a', 'b'].map((name) => ({ name, schema: { type: 'string', optional: true } })),
    };
    expect(csvOf(groupsOf(values, schema), ['a', 'b'])).toBe(
      'a,b\nplain text,"a,b"\n"","say ""x"""\n,"two\nlines"\n, \n',
    );
  });

  test('an undeclared string is its text, other JSON is its JSON text', () => {
    const values = ['a', 'say "x"\n', 1, true, [1, 'b'], { c: null }, ''].map((v) => ({ v })) as Value[];
    const lines = readCsv(csvOf(groupsOf(values), ['v'])).slice(1);
    expect(lines.flat()).toEqual(['a', 'say "x"\n', '1', 'true', '[1,"b"]', '{"c":null}', '']);
    expect(parseJson(lines[4]![0]!)).toEqual([1, 'b']);
  });

  test('a group has its values under the names that are given, and nothing where it has no such column', () => {
    const groups = [...groupsOf([{ a: 1, b: 2 }]), ...groupsOf([{ c: 3, a: 4 }])];
    expect(csvOf(groups, ['a', 'b', 'c'])).toBe('a,b,c\n1,2,\n4,,3\n');
  });

  test('a value that is no struct has one column', () => {
    const groups = groupsOf(['x', 'y,z'], { type: 'string' });
    expect(csvColumnNames(groups[0]!.value)).toEqual(['value']);
    expect(csvOf(groups, ['value'])).toBe('value\nx\n"y,z"\n');
  });
});
