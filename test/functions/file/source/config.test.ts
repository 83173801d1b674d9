import { expect, test } from 'vitest';
import * as z from 'zod';
import { fileSource } from '../../../../functions/file/file-source.ts';
import { inSlice } from '../../../../functions/file/list-files.ts';
import { topicOf } from '../../../../functions/file/path-config.ts';
import { FileOffset, FileSourceConfig, formatOf } from '../../../../functions/file/source-config.ts';

const problems = (config: unknown) =>
  FileSourceConfig.safeParse(config).error?.issues.map(({ path, message }) => [path.join('.'), message]);

test('every problem of the types at once, with its path', () => {
  const found = problems({
    path: 'in.jsonl',
    fields: {
      ok: 'decimal(15,2)?',
      spaced: 'timestamp  local ?',
      a: 'integer',
      b: 'int32(5)',
      c: 'decimal(2,5)',
      d: 'date local',
      e: { type: 'date', format: 'yy-MM-dd' },
      f: { type: 'date', format: 'yyyy-MM-dd HH' },
      g: { type: 'int32', format: 'yyyy' },
      h: { type: 'time', format: "H 'h" },
      i: { type: 'timestamp', format: 'yyyy-MM-dd hh:mm' },
      j: { type: 'date', format: 'EEE yyyy' },
      k: 5,
    },
  });
  expect(found).toEqual([
    ['fields.a', expect.stringContaining('"integer" is no type; use int8')],
    ['fields.b', expect.stringContaining('only decimal has a precision')],
    ['fields.c', expect.stringContaining('at least the scale')],
    ['fields.d', expect.stringContaining('only timestamp can be local')],
    ['fields.e', expect.stringContaining('yy does not say the century')],
    ['fields.f', expect.stringContaining('a date has no clock')],
    ['fields.g', expect.stringContaining('format is for date, time and timestamp')],
    ['fields.h', expect.stringContaining('a single quote is not closed')],
    ['fields.i', expect.stringContaining('the clock needs H, or h and a')],
    ['fields.j', expect.stringContaining('EEE is none of the tokens')],
    ['fields.k', 'expected a type such as "int32?", or { type, format }'],
  ]);
});

test.each([
  [{ path: 'data/*.jsonl' }, 'topic', 'a glob matches many files'],
  [{ path: 'x', topic: 'a b' }, 'topic', 'a topic is'],
  [{ path: 'in.log', fields: { a: 'string' } }, 'fields', 'a line of text has no fields'],
  [{ path: 'in.log', keyFields: ['a'] }, 'keyFields', 'a line of text has no fields'],
  [{ path: 'in.json', delimiter: ';' }, 'delimiter', 'is for csv; the format is json'],
  [{ path: 'in.csv', delimiter: '""' }, 'delimiter', 'one ASCII character'],
  [{ path: 'in.csv', header: [] }, 'header', 'expected true or a list of names'],
  [{ path: 'in.csv', tabel: 1 }, '', 'Unrecognized key'],
])('%j is refused', (config, path, message) => {
  expect(problems(config)).toEqual([[path, expect.stringContaining(message)]]);
});

test('format and topic by name', () => {
  expect(['a.jsonl', 'a.NDJSON.gz', 'x.json', 'x.csv', 'x.tsv.gz', 'x.log', 'csv', 'd.json/x'].map(formatOf)).toEqual([
    'jsonl',
    'jsonl',
    'json',
    'csv',
    'csv',
    'text',
    'text',
    'text',
  ]);
  expect(['data/orders.jsonl.gz', 'my orders.csv', '.hidden', 'app.log.1', 'v1.2.json'].map(topicOf)).toEqual([
    'orders',
    'my-orders',
    '.hidden',
    'app.log.1',
    'v1.2',
  ]);
});

test('every key has a description', () => {
  for (const [key, schema] of Object.entries(FileSourceConfig.shape)) expect(schema.description, key).toBeTruthy();
});

test('each file is read by one task, under its old and its new name by the same', () => {
  const config = FileSourceConfig.parse({ path: 'logs/*', topic: 't' });
  const slices = fileSource.tasks!(config, 3).map(({ slice }) => slice);
  expect(slices).toEqual([0, 1, 2].map((index) => ({ index, of: 3 })));
  const taskOf = (name: string) => slices.findIndex((slice) => inSlice(name, slice));
  const names = Array.from({ length: 300 }, (_, i) => `logs/${i}.log`);
  for (const name of names) {
    expect(slices.filter((slice) => inSlice(name, slice))).toHaveLength(1);
    for (const suffix of ['.1', '.12.gz', '-20240229', '-20240229.gz'])
      expect(taskOf(name + suffix)).toBe(taskOf(name));
  }
  for (let i = 0; i < 3; i++) expect(names.filter((name) => taskOf(name) === i).length).toBeGreaterThan(50);
  expect(fileSource.tasks!(FileSourceConfig.parse({ path: 'a.log' }), 3)).toHaveLength(1);
});

/** Offsets are stored: when this fails, old offsets must stay readable, and this shape is the next version of it. */
test('the shape of the offset', () => {
  expect(z.toJSONSchema(FileOffset)).toMatchObject({
    required: ['position', 'line', 'identity'],
    additionalProperties: false,
    properties: {
      position: { type: 'integer' },
      line: { type: 'integer' },
      identity: {
        anyOf: [
          { required: ['head', 'bytes', 'inode'], additionalProperties: false },
          { required: ['etag', 'size'], additionalProperties: false },
        ],
      },
      end: { required: ['size'], properties: { mtimeMs: { type: 'number' } }, additionalProperties: false },
    },
  });
});
