import { appendFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Random } from './chaos-random.ts';

/** A row: the nth of its key. What the text is follows from both, so that a reader can tell whether it arrived whole. */
export interface Row {
  readonly id: string;
  readonly n: number;
  readonly text: string;
}

const words = 'a row that went through the log, however often somebody was killed meanwhile; ';
export const textOf = (id: string, n: number): string => `${id}/${n}: ${words.repeat(n % 5)}`;

const rowsPerFile = 1_500;
const growingFiles = 3;
const keysPerFile = 20;

interface Growing {
  readonly name: string;
  rows: number;
  /** The rest of a line whose first part is written. */
  rest: string;
}

/** Files that grow, in any pieces of lines, and are followed by others; objects that appear. Knows every row that it made. */
export const createSource = (directory: string, random: Random) => {
  const made = new Map<string, number>();
  const growing: Growing[] = [];
  let files = 0;
  let objects = 0;
  let rows = 0;

  const lineOf = (prefix: string): string => {
    const id = `${prefix}-${random.integer(1, keysPerFile)}`;
    const n = made.get(id) ?? 0;
    made.set(id, n + 1);
    rows++;
    return `${JSON.stringify({ id, n, text: textOf(id, n) } satisfies Row)}\n`;
  };
  const linesOf = (prefix: string, count: number): string =>
    Array.from({ length: count }, () => lineOf(prefix)).join('');

  const write = async (file: Growing, text: string): Promise<void> => {
    await appendFile(join(directory, `${file.name}.jsonl`), text);
  };

  return {
    /** One of the growing files grows. */
    async grow(): Promise<void> {
      await mkdir(directory, { recursive: true });
      while (growing.length < growingFiles) growing.push({ name: `g${files++}`, rows: 0, rest: '' });
      const file = random.pick(growing);
      const count = random.integer(1, 40);
      file.rows += count;
      const text = file.rest + linesOf(file.name, count);
      const isFull = file.rows >= rowsPerFile;
      const end = isFull ? text.length : text.length - random.integer(0, 60);
      file.rest = text.slice(end);
      await write(file, text.slice(0, end));
      if (isFull) growing.splice(growing.indexOf(file), 1);
    },
    /** The next object: its name and content. */
    object(): { readonly key: string; readonly content: string } {
      const name = `o${objects++}`;
      return { key: `in/${name}.jsonl`, content: linesOf(name, random.integer(1, 300)) };
    },
    /** Every line that has a beginning gets its end. */
    async finish(): Promise<void> {
      for (const file of growing.splice(0)) await write(file, file.rest);
    },
    /** How many rows of each key there are: they are numbered from 0. */
    made: made as ReadonlyMap<string, number>,
    counts: () => ({ rows, keys: made.size, files, objects }),
  };
};
