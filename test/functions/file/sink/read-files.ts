import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { parquetMetadata, parquetRead } from 'hyparquet';
import { parseJson } from '../../../../shared/connect/json.ts';
import type { Value } from '../../../../shared/connect/schema.ts';
import { readCsv } from '../../../shared/connect/read-csv.ts';

export const temporaryDirectory = async () => {
  const path = await mkdtemp(join(tmpdir(), 'sluice-file-sink-'));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
};

/** What a reader of the directory sees: every file that is not hidden, relative to the root, in the order of names. */
export const visibleFiles = async (root: string): Promise<string[]> => {
  const all = await readdir(root, { recursive: true, withFileTypes: true }).catch(() => []);
  return all
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1))
    .filter((path) => !path.split('/').some((part) => part.startsWith('.')))
    .sort();
};

/** Everything that is hidden: what is staged. */
export const stagedFiles = async (root: string): Promise<string[]> => {
  const all = await readdir(join(root, '.staging'), { recursive: true, withFileTypes: true }).catch(() => []);
  return all.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
};

export interface FileRow {
  readonly file: string;
  readonly topic: string;
  readonly value: Value;
}

/** The rows of every visible file, by its extension. */
export const readRows = async (root: string): Promise<FileRow[]> => {
  const rows: FileRow[] = [];
  for (const file of await visibleFiles(root)) rows.push(...(await rowsOf(file, await readFile(join(root, file)))));
  return rows;
};

/** The rows of one file, by the extension of its path below the root. */
export const rowsOf = async (file: string, bytes: Uint8Array): Promise<FileRow[]> =>
  (await valuesOf(file, bytes)).map((value) => ({ file, topic: file.split('/')[0]!, value }));

const valuesOf = async (path: string, bytes: Uint8Array): Promise<Value[]> => {
  const text = () => Buffer.from(path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString();
  if (path.endsWith('.parquet')) return (await readParquet(bytes)).objects;
  if (/\.csv(\.gz)?$/.test(path)) return csvObjects(text());
  const lines = text().split('\n');
  if (lines.pop() !== '') throw new Error(`${path}: the last line has no end`);
  return path.includes('.txt') ? lines : lines.map(parseJson);
};

const csvObjects = (text: string): Value[] => {
  const [names, ...lines] = readCsv(text);
  return lines.map((line) => Object.fromEntries(names!.map((name, i) => [name, line[i]!])));
};

const arrayBufferOf = (bytes: Uint8Array): ArrayBuffer => new Uint8Array(bytes).buffer;

/** A Parquet file without any interpretation by the library: it would round decimals and cut microseconds. */
export const readParquet = async (bytes: Uint8Array) => {
  const file = arrayBufferOf(bytes);
  const metadata = parquetMetadata(file);
  const schema = metadata.schema.slice(1);
  const physical = metadata.schema.map(({ converted_type, logical_type, ...element }) => element);
  let rows: Value[][] = [];
  await parquetRead({
    file,
    metadata: { ...metadata, schema: physical },
    utf8: false,
    onComplete: (read) => {
      rows = read as Value[][];
    },
  });
  const names = schema.map(({ name }) => name);
  const texts = rows.map((row) => row.map((v) => (v instanceof Uint8Array ? Buffer.from(v).toString() : (v ?? null))));
  const objects = texts.map((row) => Object.fromEntries(row.map((value, i) => [names[i]!, value]))) as Value[];
  return { metadata, schema, rows, objects };
};
