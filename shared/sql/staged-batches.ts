import { createHash } from 'node:crypto';
import { batchOfGroups, type RecordBatch } from '../connect/batch.ts';
import type { Identity } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import { type Body, decodeBody, encodeBody } from '../log/segment.ts';
import type { SqlTable } from './runs.ts';
import type { Connection } from './session.ts';

/** The shape of a row of sluice_staged, and of the body in it (invariant 11). A newer one stops this reader. */
export const stagedShape = 1;

/** A statement holds a body's part as hexadecimal digits, and the smallest packet a server takes is 1 MB. */
const partBytes = 256 * 1024;

/** By source partition, the batches of one connector whose transaction is not at its end: in the destination, moved with the offset. */
export interface StagedBatches<C extends Connection> {
  ensure(connection: C): Promise<void>;
  /** Their numbers, in order. */
  list(connection: C, partition: string): Promise<readonly number[]>;
  read(connection: C, partition: string, number: number): Promise<RecordBatch>;
  /** Statements for inside a transaction. */
  add(partition: string, number: number, batch: RecordBatch): Promise<readonly string[]>;
  clear(partition: string): string;
}

interface StagedRow {
  readonly part: number;
  readonly meta: string;
  readonly body: Uint8Array;
  readonly v: number;
}

type Meta = Omit<Body, 'bytes'> & { readonly topics: readonly string[]; readonly parts: number };

export const createStagedBatches = <C extends Connection>(
  { table, literal, make, bytesLiteral }: SqlTable<C> & { bytesLiteral(bytes: Uint8Array): string },
  { deployment, connector, incarnation }: Identity,
): StagedBatches<C> => {
  const owner = [deployment, connector, incarnation].map(literal);
  // A partition is as long as it likes, a key is not.
  const hashOf = (partition: string) => literal(createHash('sha256').update(partition).digest('hex'));
  const mine = (partition: string) =>
    [
      ...['deployment', 'connector', 'incarnation'].map((name, i) => `${name} = ${owner[i]}`),
      `lane = ${hashOf(partition)}`,
    ].join(' AND ');
  let made = false;
  return {
    async ensure(connection) {
      if (!made) await make(connection);
      made = true;
    },
    async list(connection, partition) {
      const rows = await connection.query<{ number: number }>(
        `SELECT number FROM ${table} WHERE ${mine(partition)} AND part = 0 ORDER BY number`,
      );
      return rows.map(({ number }) => number);
    },
    async read(connection, partition, number) {
      const where = `batch ${number} of ${connector} in sluice_staged`;
      const rows = await connection.query<StagedRow>(
        `SELECT part, meta, body, v FROM ${table} WHERE ${mine(partition)} AND number = ${number} ORDER BY part`,
      );
      // All of them go at once, with an offset that is moved.
      if (rows.length === 0) throw new ConnectError('FENCED', `${where} was written by another run`);
      const meta = JSON.parse(rows[0]!.meta) as Meta;
      const newest = Math.max(...rows.map(({ v }) => v));
      if (newest > stagedShape)
        throw new ConnectError(
          'SHAPE_TOO_NEW',
          `${where} has shape ${newest}, this release reads ${stagedShape}: use the release that wrote it`,
        );
      if (rows.length !== meta.parts) throw new ConnectError('CORRUPT', `${where} lacks parts of its body`);
      const bytes = Buffer.concat(rows.map(({ body }) => body));
      const { groups } = await decodeBody({ ...meta, bytes }, '', where);
      return batchOfGroups(groups.map((group, i) => ({ ...group, topic: meta.topics[i]! })));
    },
    async add(partition, number, { groups }) {
      const { bytes, ...body } = await encodeBody(groups);
      const parts = Math.ceil(bytes.length / partBytes);
      const meta: Meta = { ...body, topics: groups.map(({ topic }) => topic), parts };
      return Array.from({ length: parts }, (_, part) => {
        const own = bytesLiteral(bytes.subarray(part * partBytes, (part + 1) * partBytes));
        const values = [
          ...owner,
          hashOf(partition),
          number,
          part,
          literal(part === 0 ? JSON.stringify(meta) : ''),
          own,
          stagedShape,
        ];
        return `INSERT INTO ${table} (deployment, connector, incarnation, lane, number, part, meta, body, v) VALUES (${values.join(', ')})`;
      });
    },
    clear: (partition) => `DELETE FROM ${table} WHERE ${mine(partition)}`,
  };
};
