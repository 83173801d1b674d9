import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parquetReadObjects } from 'hyparquet';
import pg from 'pg';
import { readHeads, readTopic } from '../shared/log/topics.ts';
import { readStates } from '../shared/management/status.ts';
import type { Table } from '../shared/state/table.ts';
import { type Row, textOf } from './chaos-source.ts';

/** How many rows of each key were made. */
type Made = ReadonlyMap<string, number>;

export interface Checked {
  readonly rows: number;
  readonly problems: readonly string[];
}

/** Rows in the order of their arrival: each key's are 0, 1, 2… up to the last, each once. */
const checkAll = (where: string, rows: Iterable<Row>, made: Made): Checked => {
  const problems: string[] = [];
  const arrived = new Map<string, number>();
  let count = 0;
  for (const { id, n, text } of rows) {
    count++;
    const expected = arrived.get(id) ?? 0;
    if (n !== expected) problems.push(`${where}: key ${id} has row ${n} where ${expected} should be`);
    if (text !== textOf(id, n)) problems.push(`${where}: row ${n} of key ${id} is not as it was written: ${text}`);
    arrived.set(id, n + 1);
  }
  for (const [id, total] of made)
    if ((arrived.get(id) ?? 0) !== total)
      problems.push(`${where}: key ${id} has ${arrived.get(id) ?? 0} of ${total} rows`);
  return { rows: count, problems };
};

const query = async (url: string, sql: string): Promise<Row[]> => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
};

/** A table of the last row of each key. */
export const checkLatest = async (url: string, table: string, made: Made): Promise<Checked> => {
  const rows = await query(url, `SELECT id, n, text FROM ${table}`);
  const found = new Map(rows.map((row) => [row.id, row]));
  const problems = [...made].flatMap(([id, total]) => {
    const row = found.get(id);
    if (row?.n === total - 1 && row.text === textOf(id, row.n)) return [];
    return [`${table}: key ${id} is at row ${row?.n ?? 'none'} where ${total - 1} is the last`];
  });
  if (rows.length > made.size) problems.push(`${table}: ${rows.length} rows of ${made.size} keys`);
  return { rows: rows.length, problems };
};

/** A table that every row was inserted into; `arrived` is a sequence of the database. */
export const checkEvery = async (url: string, table: string, made: Made): Promise<Checked> =>
  checkAll(table, await query(url, `SELECT id, n, text FROM ${table} ORDER BY arrived`), made);

/** A directory of files, whose names are in the order of commits. */
export const checkFiles = async (directory: string, made: Made): Promise<Checked & { readonly files: number }> => {
  const names = (await readdir(directory)).filter((name) => !name.startsWith('.')).sort();
  const rows: Row[] = [];
  for (const name of names) for (const row of await readRows(join(directory, name))) rows.push(row);
  return { ...checkAll(directory, rows, made), files: names.length };
};

const readRows = async (path: string): Promise<readonly Row[]> => {
  const bytes = await readFile(path);
  if (path.endsWith('.parquet'))
    return (await parquetReadObjects({ file: new Uint8Array(bytes).buffer })) as unknown as Row[];
  const lines = bytes.toString().split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line));
};

/** Every connector runs, none is behind, and nothing is in the dead letters. */
export const checkStates = async (table: Table): Promise<readonly string[]> => {
  const states = await readStates(table, Date.now());
  const problems = states.flatMap(({ row, tasks, lagRecords = 0, unfinished }) => [
    ...tasks.flatMap(({ task, state, row: { trace } }) =>
      state === 'RUNNING' && trace === undefined
        ? []
        : [`${row.name} task ${task} is ${state}: ${trace ?? 'no trace'}`],
    ),
    ...(lagRecords > 0 ? [`${row.name} has ${lagRecords} records to read`] : []),
    ...(unfinished ? [`${row.name} has not finished a batch or an order`] : []),
  ]);
  for (const name of await table.names('topic')) {
    if (!name.endsWith('.dlq')) continue;
    const heads = await readHeads(table, (await readTopic(table, name))!);
    const letters = heads.reduce((sum, { next }) => sum + next, 0);
    if (letters > 0) problems.push(`${letters} records are in the dead letters ${name}`);
  }
  return problems;
};
