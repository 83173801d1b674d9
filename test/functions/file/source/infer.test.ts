import { createWriteStream } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { expect, test } from 'vitest';
import { type Inferred, inferSchema } from '../../../../functions/file/infer.ts';
import { parseJson } from '../../../../shared/connect/json.ts';
import { inDirectory, readAll } from './kit.ts';

const infer = (name: string, content: string): Promise<Inferred> =>
  inDirectory(async (directory) => {
    const path = join(directory, name);
    await writeFile(path, content);
    const inferred = await inferSchema(path);
    // What is inferred is what reads the whole file.
    const { errors } = await readAll({ path, fields: { ...inferred.fields } });
    expect(errors).toEqual([]);
    return inferred;
  });

const column = async (...values: string[]) => {
  const { fields, notes } = await infer('in.jsonl', values.map((value) => `{"f":${value}}\n`).join(''));
  return { type: fields.f, notes };
};

test.each([
  [['1', '-2147483648'], 'int32'],
  [['1', '2147483648'], 'int64'],
  [['1', '9223372036854775808'], 'decimal(19,0)'],
  [['1', '0.25', '123.5'], 'decimal(5,2)'],
  [['1', '1e5'], 'float64'],
  [['0.1', '0.30000000000000004'], 'float64'],
  [['12345678901234567.891'], 'decimal(20,3)'],
  [['true', 'false'], 'boolean'],
  [['null'], 'any'],
  [['1', 'null'], 'int32?'],
  [['"2024-02-29"'], 'date'],
  [['"2024-02-29T00:00:00Z"', '"2024-02-29 10:00:00+02:00"'], 'timestamp'],
  [['"2024-02-29T00:00:00"'], 'timestamp local'],
  [['"Jun 12 1998"', '"Aug 07 2046"'], { type: 'date', format: 'MMM d yyyy' }],
  [['"12.6.1998"', '"01.02.1998"'], { type: 'date', format: 'd.M.yyyy' }],
  [['"06/13/1998"', '"01/02/1998"'], { type: 'date', format: 'MM/dd/yyyy' }],
  [['"13/06/1998"', '"01/02/1998"', 'null'], { type: 'date?', format: 'dd/MM/yyyy' }],
  [['"01234"', '"5"'], 'string'],
  [['"12"', '"13"'], 'string'],
  [['"2024-02-30"'], 'string'],
  [['{"a":1}', '[1]'], 'any'],
])('%j is %j', async (values, type) => {
  expect(await column(...values)).toEqual({ type, notes: [] });
});

test.each([
  [['"x"', '300', '"y"'], 'string', 'f: 1 of 3 values are numbers, declared string'],
  [['1', '"2"', '3'], 'int32', 'f: 1 of 3 values are text that holds a number, declared int32'],
  [['1', 'true'], 'any', 'f: 1 numbers, 0 strings, 1 booleans and 0 nested values in 2, declared any'],
  [['{}', '"x"'], 'any', 'f: 0 numbers, 1 strings, 0 booleans and 1 nested values in 2, declared any'],
  [['"01/02/2024"'], 'string', 'f: all values fit both MM/dd/yyyy and another order of day and month'],
  [
    ['"2024-02-29"', '"29.02.2024"', '"soon"'],
    'string',
    'f: of 3 values 1 like an ISO date, 1 like dd.MM.yyyy, 1 like d.M.yyyy, 1 of no known form of dates, declared string',
  ],
])('%j is %j, with a note', async (values, type, note) => {
  expect(await column(...values)).toEqual({ type, notes: [expect.stringContaining(note)] });
});

test('CSV: text that is a number is one, an empty field is null where the type has no empty text', async () => {
  const { fields, notes } = await infer('in.csv', 'a,b,c,d,e\n1,2.50,,TRUE,007\n,3,x,false,8\n');
  expect(fields).toEqual({ a: 'int32?', b: 'decimal(3,2)', c: 'string', d: 'boolean', e: 'string' });
  expect(notes).toEqual(['e: 1 of 2 values are numbers, declared string']);
});

test('a line that is no record is noted, not passed over', async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, 'in.jsonl');
    await writeFile(path, '{"a":1}\n{"a":\n{"a":2,"b":1}\n');
    const { fields, notes } = await inferSchema(path);
    expect(fields).toEqual({ a: 'int32', b: 'int32?' });
    expect(notes).toEqual([expect.stringContaining('in.jsonl:2: not JSON')]);
  });
});

/** What real exports do: absent fields, numbers as text, dates in three forms, and a number that is a text far behind. */
test('a field that changes its type after 100,000 rows', () =>
  inDirectory(async (directory) => {
    const path = join(directory, 'messy.jsonl');
    const rows = 120_000;
    const dates = ['2024-02-29', 'Feb 29 2024', '29.02.2024'];
    const rowOf = (n: number) => ({
      id: n,
      code: n < 100_000 ? n : `x-${n}`,
      price: n % 3 === 0 ? `${n}.5` : n + 0.25,
      day: dates[n % 3],
      ...(n % 7 === 0 ? {} : { note: n % 5 === 0 ? null : `note "${n}"` }),
    });
    const out = createWriteStream(path);
    for (let n = 0; n < rows; n += 1_000)
      out.write(Array.from({ length: 1_000 }, (_, i) => `${JSON.stringify(rowOf(n + i))}\n`).join(''));
    out.end();
    await finished(out);
    const { fields, notes } = await inferSchema(path);
    expect(fields).toEqual({ id: 'int32', code: 'string', price: 'decimal(8,2)', day: 'string', note: 'string?' });
    expect(notes).toEqual([
      'code: 100000 of 120000 values are numbers, declared string',
      'price: 40000 of 120000 values are text that holds a number, declared decimal(8,2)',
      expect.stringContaining('day: of 120000 values 40000 like an ISO date, 40000 like dd.MM.yyyy'),
    ]);
    const typed = await readAll({ path, fields: { ...fields } }, { maxRecords: 7_000 });
    expect(typed.errors).toEqual([]);
    expect(typed.values).toHaveLength(rows);
    expect(typed.values.at(-1)).toEqual({ ...rowOf(rows - 1), code: 'x-119999', price: '119999.25' });
    // Without a declaration nothing is guessed, and nothing fails.
    const plain = await readAll({ path }, { maxRecords: 7_000 });
    expect(plain.values).toHaveLength(rows);
    expect(plain.values[100_000]).toEqual(parseJson(JSON.stringify(rowOf(100_000))));
    const wrong = await readAll({ path, fields: { code: 'int32' } }, { maxRecords: 7_000 });
    expect([wrong.values.length, wrong.errors.length]).toEqual([100_000, 20_000]);
    expect(wrong.errors[0]).toBe(`${path}:100001: code: expected int32, got "x-100000"`);
  }));
