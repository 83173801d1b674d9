import { execFile } from 'node:child_process';
import { createReadStream, createWriteStream } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import pg from 'pg';

/**
 * What a pipeline is measured beside: the least that does the same work without any promise. No log, no offsets, nothing survives a
 * crash, and each in one process.
 */

/** A plain Node program that reads lines, compresses and decompresses them as the log does, and writes them: bench/plain-copy.ts. */
export const plainCopy = async (input: string, output: string, parse: boolean) => {
  const program = fileURLToPath(new URL('./plain-copy.ts', import.meta.url));
  const startMs = performance.now();
  const { stdout } = await promisify(execFile)(process.execPath, [program, input, output, ...(parse ? ['parse'] : [])]);
  return { seconds: (performance.now() - startMs) / 1000, ...(JSON.parse(stdout) as { cpu: number; rssMb: number }) };
};

/** What pg's connection has for COPY, and its types leave out. */
interface CopyConnection {
  readonly stream: NodeJS.WritableStream & { readonly writableNeedDrain: boolean };
  query(text: string): void;
  sendCopyFromChunk(data: Uint8Array): void;
  endCopyFrom(): void;
}

const copyIn = (client: pg.Client, statement: string, file: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const send = async (connection: CopyConnection) => {
      for await (const chunk of createReadStream(file, { highWaterMark: 1 << 18 })) {
        connection.sendCopyFromChunk(chunk as Buffer);
        if (connection.stream.writableNeedDrain)
          await new Promise<void>((drained) => connection.stream.once('drain', () => drained()));
      }
      connection.endCopyFrom();
    };
    client.query({
      submit: (connection: unknown) => (connection as CopyConnection).query(statement),
      handleCopyInResponse: (connection: CopyConnection) => void send(connection).catch(reject),
      handleCommandComplete() {},
      handleReadyForQuery: () => resolve(),
      handleError: reject,
    } as pg.Submittable);
  });

/**
 * Seconds that one COPY of ready COPY text into an unlogged staging table and one INSERT … ON CONFLICT of it take, in a transaction, by the
 * same driver into an empty table as `like`.
 */
export const copyAndMerge = async (
  url: string,
  file: string,
  like: string,
  keys: readonly string[],
): Promise<number> => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(`DROP TABLE IF EXISTS peer, peer_staging`);
    await client.query(`CREATE TABLE peer (LIKE ${like} INCLUDING ALL)`);
    await client.query(`CREATE UNLOGGED TABLE peer_staging (LIKE ${like})`);
    const { rows } = await client.query<{ name: string }>(
      `SELECT quote_ident(attname) AS name FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped`,
      [like],
    );
    const sets = rows.filter(({ name }) => !keys.includes(name)).map(({ name }) => `${name} = excluded.${name}`);
    const startMs = performance.now();
    await client.query('BEGIN');
    await copyIn(client, 'COPY peer_staging FROM STDIN', file);
    await client.query(
      `INSERT INTO peer SELECT * FROM peer_staging ON CONFLICT (${keys.join(', ')}) DO UPDATE SET ${sets.join(', ')}`,
    );
    await client.query('COMMIT');
    return (performance.now() - startMs) / 1000;
  } finally {
    await client.end();
  }
};

/** The rows of a table as COPY text, as `copyAndMerge` takes them. */
export const copyOut = async (url: string, table: string, file: string): Promise<void> => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const out = createWriteStream(file);
  try {
    await new Promise<void>((resolve, reject) => {
      client.query({
        submit: (connection: unknown) => (connection as CopyConnection).query(`COPY ${table} TO STDOUT`),
        // A view of a buffer that pg uses again.
        handleCopyData: ({ chunk }: { chunk: Buffer }) => void out.write(Buffer.from(chunk)),
        handleCommandComplete() {},
        handleReadyForQuery: () => resolve(),
        handleError: reject,
      } as unknown as pg.Submittable);
    });
  } finally {
    await new Promise<void>((closed) => out.end(() => closed()));
    await client.end();
  }
};
