import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readContent } from './kit.ts';

const quote = (text: string) => `"${text.replaceAll('"', '""')}"`;

describe('CSV', () => {
  test('any table comes back, whatever the budget', async () => {
    const field = fc.oneof(fc.string(), fc.constantFrom('', '"', '""', 'a,b', 'x\ny', '\r\n', 'é', ' ', 'a"b', '\0'));
    await fc.assert(
      fc.asyncProperty(
        fc
          .integer({ min: 2, max: 4 })
          .chain((width) =>
            fc
              .array(fc.array(fc.tuple(field, fc.boolean()), { minLength: width, maxLength: width }), { maxLength: 10 })
              .map((rows) => ({ width, rows })),
          ),
        fc.constantFrom('\n', '\r\n'),
        fc.boolean(),
        fc.integer({ min: 1, max: 4 }),
        async ({ width, rows }, lineEnd, ends, maxRecords) => {
          const names = Array.from({ length: width }, (_, i) => `c ${i}`);
          const write = ([text, always]: [string, boolean]) =>
            always || /[",\r\n]/.test(text) || text === '' ? quote(text) : text;
          const lines = [names.join(','), ...rows.map((row) => row.map(write).join(','))];
          const content = lines.join(lineEnd) + (ends ? lineEnd : '');
          const { values, errors } = await readContent('in.csv', content, {}, { maxRecords });
          expect(errors).toEqual([]);
          expect(values).toEqual(rows.map((row) => Object.fromEntries(row.map(([text], i) => [names[i], text]))));
        },
      ),
      { numRuns: 150 },
    );
  });

  test('what is null', async () => {
    const content = 'a,b,c\n,,\n"","",""\nNA,NA,NA\n"NA",1,NA\n';
    const fields = { a: 'string?', b: 'int32?' };
    const plain = await readContent('in.csv', content, { fields });
    expect(plain.values).toEqual([
      { a: '', b: null, c: '' },
      { a: 'NA', b: 1, c: 'NA' },
    ]);
    expect(plain.errors).toEqual(['in.csv:3: b: expected int32?, got ""', 'in.csv:4: b: expected int32?, got "NA"']);
    const named = await readContent('in.csv', content, { fields, null: 'NA' });
    expect(named.values).toEqual([
      { a: null, b: null, c: null },
      { a: 'NA', b: 1, c: null },
    ]);
    expect(named.errors).toHaveLength(2);
  });

  test('rows with a wrong number of fields and broken quotes are errors of their line only', async () => {
    const content = 'a,b\n1,2\n1\n"x"y,2\n1,2,3\n"two\nlines",4\n\n5,6\n"open,7\n8,9\n';
    const { values, errors, raws, indices } = await readContent('in.csv', content);
    expect(values).toEqual([
      { a: '1', b: '2' },
      { a: 'two\nlines', b: '4' },
      { a: '5', b: '6' },
      { a: '8', b: '9' },
    ]);
    expect(errors).toEqual([
      'in.csv:3: expected 2 fields, got 1',
      'in.csv:4: there is text after the closing quote of a field',
      'in.csv:5: expected 2 fields, got 3',
      'in.csv:10: a quote is never closed',
    ]);
    expect(raws).toEqual(['1', '"x"y,2', '1,2,3', '"open,7']);
    expect(indices).toEqual([1, 1, 1, 3]);
  });

  test('header, delimiter and columns', async () => {
    const listed = await readContent('in.csv', '1;2\n', { header: ['a', 'b'], delimiter: ';' });
    expect(listed.values).toEqual([{ a: '1', b: '2' }]);
    expect((await readContent('in.tsv', 'a\tb\n1,5\t2\n')).values).toEqual([{ a: '1,5', b: '2' }]);
    expect((await readContent('in.csv', '"a ""x""",b\n1,2')).values).toEqual([{ 'a "x"': '1', b: '2' }]);
    expect((await readContent('in.csv', 'a,b\n')).values).toEqual([]);
    expect((await readContent('in.csv', '')).values).toEqual([]);
    const optional = await readContent('in.csv', 'a\n1\n', { fields: { b: 'int32?', a: 'int32' }, keyFields: ['a'] });
    expect(optional.values).toEqual([{ a: 1 }]);
    expect(optional.keys).toEqual([{ a: 1 }]);
  });

  test.each([
    ['a,b\n1,2\n', { fields: { c: 'int32' } }, 'has no column "c"; its columns are a, b'],
    ['a,b\n1,2\n', { keyFields: ['k'] }, 'has no column "k"'],
    ['a,a\n1,2\n', {}, 'the column "a" is there twice'],
    ['\na,b\n', {}, 'the first line is empty'],
  ])('%j with %j is an error of the file, not of its rows', async (content, config, message) => {
    await expect(readContent('in.csv', content, config)).rejects.toThrow(message);
  });
});
