import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { inferSchema } from '../../../../functions/file/infer.ts';
import type { Struct } from '../../../../shared/connect/schema.ts';
import { readAll } from './kit.ts';

const data = join(import.meta.dirname, '../../../../node_modules/vega-datasets/data');
const movies = join(data, 'movies.json');
const flights = join(data, 'flights-200k.json');

test('movies: every value as it is, without and with the inferred types', async () => {
  const expected: Struct[] = JSON.parse(await readFile(movies, 'utf8'));
  const plain = await readAll({ path: movies });
  expect(plain.values).toEqual(expected);

  const { fields, notes } = await inferSchema(movies);
  expect(fields).toMatchObject({
    Title: 'string?',
    'US Gross': 'int32?',
    'Worldwide Gross': 'int64?',
    'Release Date': { type: 'date', format: 'MMM d yyyy' },
    'IMDB Rating': 'decimal(2,1)?',
  });
  expect(notes).toEqual(['Title: 9 of 3201 values are numbers, declared string?']);

  const typed = await readAll({ path: movies, fields: { ...fields } });
  expect(typed.errors).toEqual([]);
  const values = typed.values as Struct[];
  expect(values).toHaveLength(3201);
  const texts = (rows: Struct[], field: string) => rows.map((row) => (row[field] === null ? null : String(row[field])));
  for (const field of Object.keys(fields).filter((name) => name !== 'Release Date' && name !== 'IMDB Rating'))
    expect(texts(values, field)).toEqual(texts(expected, field));
  expect(expected.filter(({ Title }) => typeof Title === 'number')).toHaveLength(9);
  expect(values.map((row) => row['Release Date'])).toEqual(
    expected.map((row) => {
      const [, month, day, year] = /^(\w{3}) (\d\d) (\d{4})$/.exec(String(row['Release Date']))!;
      const number = 'JanFebMarAprMayJunJulAugSepOctNovDec'.indexOf(month!) / 3 + 1;
      return `${year}-${String(number).padStart(2, '0')}-${day}`;
    }),
  );
  // The data set's own fault, kept: films of 1915 to 1946 that are dated a hundred years late.
  expect(values.filter((row) => String(row['Release Date']) >= '2015')).toHaveLength(22);
});

test('flights: 200,000 rows', async () => {
  const expected: Struct[] = JSON.parse(await readFile(flights, 'utf8'));
  const fields = { delay: 'int32', distance: 'int32', time: 'float64' };
  const { values, errors } = await readAll({ path: flights, fields }, { maxRecords: 7_777 });
  expect(errors).toEqual([]);
  expect(values.length).toBe(200_000);
  // One comparison for all: a matcher over 200,000 rows takes longer than reading them.
  expect(JSON.stringify(values) === JSON.stringify(expected)).toBe(true);
});
