import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type * as z from 'zod';
import { createFileSource, fileSource } from '../../../../functions/file/file-source.ts';
import { s3Store } from '../../../../functions/file/open-store.ts';
import type { FileSourceConfig } from '../../../../functions/file/source-config.ts';
import type { Struct } from '../../../../shared/connect/schema.ts';
import { describeSource, type ExpectedRecord } from '../../../kit/describe-source.ts';
import { useLocalS3, useMinistackS3 } from '../s3-bucket.ts';

type Config = Omit<z.input<typeof FileSourceConfig>, 'path'>;

interface Form {
  readonly file: string;
  readonly config?: Config;
  /** A whole file of these records. */
  write(rows: readonly Struct[]): string;
  /** What is appended for more records; absent where a file can't grow. */
  grow?(rows: readonly Struct[]): string;
  expect?(row: Struct): Omit<ExpectedRecord, 'topic'>;
}

const rowOf = (n: number): Struct => ({
  id: n,
  name: n % 3 === 0 ? `na"me\n${n}` : `grüße ${n}`,
  note: n % 4 === 0 ? null : 'x'.repeat(n),
  tags: [n, { deep: n }],
});

const lines = (rows: readonly Struct[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');

const csv = (rows: readonly Struct[]) =>
  rows.map((row) => `${row.id},"${String(row.name).replaceAll('"', '""')}",${row.note ?? ''}\n`).join('');

const forms: Record<string, Form> = {
  'JSON lines, nothing declared': { file: 'in.jsonl', write: lines, grow: lines },
  'JSON lines, typed, with a key': {
    file: 'in.jsonl',
    config: { fields: { id: 'int64', name: 'string', note: 'string?' }, keyFields: ['id'], follow: true },
    write: lines,
    grow: lines,
    expect: (row) => ({ key: { id: BigInt(row.id as number) }, value: { ...row, id: BigInt(row.id as number) } }),
  },
  'JSON array': {
    file: 'in.json',
    write: (rows) => JSON.stringify(rows, null, 2),
  },
  'CSV with line ends in quotes': {
    file: 'in.csv',
    config: { fields: { id: 'int32', name: 'string', note: 'string?' }, null: '' },
    write: (rows) => `id,name,note\n${csv(rows)}`,
    grow: csv,
    expect: ({ tags, ...row }) => ({ key: null, value: row }),
  },
  'lines of text, the last one without an end': {
    file: 'in.txt',
    write: (rows) => rows.map((row) => `line ${row.id} of text`).join('\r\n'),
    expect: (row) => ({ key: null, value: `line ${row.id} of text` }),
  },
};

const rows = Array.from({ length: 40 }, (_, n) => rowOf(n));
const otherRows = Array.from({ length: 60 }, (_, n) => rowOf(n + 1000));
const newRows = Array.from({ length: 5 }, (_, n) => rowOf(n + 40));

for (const [name, form] of Object.entries(forms))
  for (const compressed of [false, true])
    describeSource(`file source, ${name}${compressed ? ', gzip' : ''}`, async () => {
      const directory = await mkdtemp(join(tmpdir(), 'sluice-file-source-'));
      const path = join(directory, compressed ? `${form.file}.gz` : form.file);
      const bytes = (text: string) => (compressed ? gzipSync(text) : Buffer.from(text));
      const expected = (row: Struct): ExpectedRecord => ({
        topic: 'in',
        ...(form.expect?.(row) ?? { key: null, value: row }),
      });
      await writeFile(path, bytes(form.write(rows)));
      return {
        source: fileSource,
        config: { path, ...form.config },
        expected: rows.map(expected),
        replace: () => writeFile(path, bytes(form.write(otherRows))),
        cleanup: () => rm(directory, { recursive: true }),
        ...(form.grow === undefined
          ? {}
          : {
              async more() {
                await appendFile(path, bytes(form.grow!(newRows)));
                return newRows.map(expected);
              },
            }),
      };
    });

describeSource('file source, a glob of files', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'sluice-file-source-'));
  const names = ['a.jsonl', 'b.ndjson', 'c.jsonl.gz', 'd.jsonl', 'e.jsonl'];
  const part = (i: number) => rows.slice(i * 10, i * 10 + 10);
  const expected = (row: Struct): ExpectedRecord => ({ topic: 'all', key: null, value: row });
  const write = async (from: (i: number) => readonly Struct[]) => {
    for (const [i, name] of names.entries())
      await writeFile(join(directory, name), name.endsWith('.gz') ? gzipSync(lines(from(i))) : lines(from(i)));
  };
  await write(part);
  return {
    source: fileSource,
    config: { path: join(directory, '*.{jsonl,ndjson,jsonl.gz}'), topic: 'all' },
    expected: rows.map(expected),
    async more() {
      await appendFile(join(directory, 'd.jsonl'), lines(newRows.slice(0, 2)));
      await writeFile(join(directory, 'f.jsonl'), lines(newRows.slice(2)));
      return newRows.map(expected);
    },
    replace: () => write((i) => otherRows.slice(i * 10)),
    cleanup: () => rm(directory, { recursive: true }),
  };
});

const localS3 = useLocalS3();

for (const [name, form] of Object.entries(forms))
  for (const compressed of [false, true])
    describeSource(`file source on S3, ${name}${compressed ? ', gzip' : ''}`, async () => {
      const bucket = await localS3.makeBucket();
      const key = `some/${form.file}${compressed ? '.gz' : ''}`;
      const { follow: _, ...config } = form.config ?? {};
      await bucket.s3.put(bucket.name, key, compressed ? gzipSync(form.write(rows)) : Buffer.from(form.write(rows)));
      return {
        source: createFileSource(() => s3Store(bucket.s3)),
        config: { path: `s3://${bucket.name}/${key}`, ...config },
        expected: rows.map((row) => ({ topic: 'in', ...(form.expect?.(row) ?? { key: null, value: row }) })),
      };
    });

const ministackS3 = useMinistackS3();
const listings = [
  ['S3', localS3, 'in/'],
  ['S3', localS3, 'in/*.{jsonl,ndjson,jsonl.gz}'],
  ['the S3 of ministack', ministackS3, 'in/'],
] as const;

for (const [name, { makeBucket }, path] of listings)
  describeSource(`file source on ${name}, ${path}`, async () => {
    const bucket = await makeBucket();
    const put = (name: string, some: readonly Struct[]) => {
      const bytes = Buffer.from(lines(some));
      return bucket.s3.put(bucket.name, `in/${name}`, name.endsWith('.gz') ? gzipSync(bytes) : bytes);
    };
    const expected = (row: Struct): ExpectedRecord => ({ topic: 'all', key: null, value: row });
    for (const [i, name] of ['a.jsonl', 'b.ndjson', 'c.jsonl.gz', 'd.jsonl'].entries())
      await put(name, rows.slice(i * 10, i * 10 + 10));
    await put('.hidden.jsonl', otherRows);
    await bucket.s3.put(bucket.name, 'in.jsonl', Buffer.from(lines(otherRows)));
    return {
      source: createFileSource(() => s3Store(bucket.s3)),
      config: { path: `s3://${bucket.name}/${path}`, topic: 'all' },
      expected: rows.map(expected),
      async more() {
        // One before and one behind all that was read.
        await put('0.jsonl', newRows.slice(0, 2));
        await put('e.jsonl', newRows.slice(2));
        return newRows.map(expected);
      },
    };
  });
