import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';

/** How often each thing is there. Things are compared by their JSON, fields in order. */
export const countsOf = (things: Iterable<unknown>): ReadonlyMap<string, number> => {
  const counts = new Map<string, number>();
  for (const thing of things) {
    const text = JSON.stringify(thing);
    counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  return counts;
};

/** What differs between two multisets, a few of each: a diff of 200,000 rows helps nobody. */
export const difference = (
  actual: ReadonlyMap<string, number>,
  expected: ReadonlyMap<string, number>,
): { readonly missing: readonly string[]; readonly tooMany: readonly string[] } => {
  const over = (a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>) =>
    [...a].flatMap(([text, count]) => (count > (b.get(text) ?? 0) ? [`${count - (b.get(text) ?? 0)} × ${text}`] : []));
  return { missing: over(expected, actual).slice(0, 5), tooMany: over(actual, expected).slice(0, 5) };
};

export const same = { missing: [], tooMany: [] };

/** Rows as arrays of what PostgreSQL's text form says, null as null. */
export const queryRows = async (url: string, sql: string): Promise<readonly (string | null)[][]> => {
  const client = new pg.Client({
    connectionString: url,
    types: { getTypeParser: () => (text: string | Buffer) => String(text) } as unknown as pg.CustomTypesConfig,
  });
  await client.connect();
  try {
    return (await client.query({ text: sql, rowMode: 'array' })).rows;
  } finally {
    await client.end();
  }
};

/** A directory's files in the order of their names, without what is still staged. */
export const filesOf = async (directory: string): Promise<readonly string[]> =>
  (await readdir(directory)).sort().map((name) => join(directory, name));

/** The objects of a directory of JSON-lines files, in file-name order. */
export const jsonLinesOf = async (directory: string): Promise<readonly unknown[]> => {
  const rows: unknown[] = [];
  for (const file of await filesOf(directory))
    for (const line of (await readFile(file, 'utf8')).split('\n')) if (line !== '') rows.push(JSON.parse(line));
  return rows;
};
