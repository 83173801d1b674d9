import {
  type Identity,
  type OffsetCommit,
  type Partition,
  partitionKey,
  type StoredOffset,
} from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { type Connection, literal, sqlStateOf } from './client.ts';
import { makeOnce, sqlName } from './table.ts';

/** The shape of a row of sluice_offsets (invariant 11). A newer one stops this reader. */
export const offsetsShape = 1;

export const createOffsetsTable = (schema: string): string =>
  `CREATE TABLE IF NOT EXISTS ${sqlName({ schema, name: 'sluice_offsets' })} (
    deployment text, connector text, incarnation text, partition text,
    seq bigint NOT NULL, write_id text NOT NULL, "offset" text, reset_id text,
    v smallint NOT NULL, updated_at timestamptz NOT NULL,
    PRIMARY KEY (deployment, connector, incarnation, partition))`;

/** The offsets of one connector, in the destination, moved in the transaction of the rows. */
export interface OffsetTable {
  read(connection: Connection): Promise<readonly StoredOffset[]>;
  /** Makes the table where it is missing. Outside of any transaction. */
  ensure(connection: Connection): Promise<void>;
  /**
   * Opens a transaction and moves the offsets in it, before any row, so that a zombie waits or fails before it writes. `mine`: an
   * earlier attempt of this commit had succeeded. Throws FENCED. After anything but `new` the transaction is to be rolled back.
   */
  begin(connection: Connection, commits: readonly OffsetCommit[]): Promise<'new' | 'mine'>;
  reset(
    connection: Connection,
    id: string,
    offsets: readonly { readonly partition: Partition; readonly offset: unknown }[],
  ): Promise<void>;
}

export const createOffsetTable = (schema: string, { deployment, connector, incarnation }: Identity): OffsetTable => {
  const table = sqlName({ schema, name: 'sluice_offsets' });
  const owner = [deployment, connector, incarnation];
  const ownerSql = owner.map(literal).join(', ');
  const mine = `(deployment, connector, incarnation) = (${ownerSql})`;
  let made = false;

  const readKeys = async (connection: Connection, where: string, values: readonly unknown[]) => {
    const rows = await connection.query<OffsetRow>(
      `SELECT partition, seq, write_id, "offset", v FROM ${table} WHERE ${mine} ${where}`,
      values,
    );
    return rows.map(storedOffset);
  };

  const compareAndSet = ({ key, seq, writeId, offset }: OffsetCommit): string => {
    const text = literal(JSON.stringify(offset ?? null));
    if (seq === 0)
      return `INSERT INTO ${table} (deployment, connector, incarnation, partition, seq, write_id, "offset", v, updated_at)
        VALUES (${ownerSql}, ${literal(key)}, 1, ${literal(writeId)}, ${text}, ${offsetsShape}, now()) ON CONFLICT DO NOTHING`;
    return `UPDATE ${table} SET seq = seq + 1, write_id = ${literal(writeId)}, "offset" = ${text}, updated_at = now()
      WHERE ${mine} AND partition = ${literal(key)} AND seq = ${seq} AND v = ${offsetsShape}`;
  };

  return {
    async read(connection) {
      try {
        const stored = await readKeys(connection, '', []);
        made = true;
        return stored;
      } catch (error) {
        // A first run that finds nothing to do leaves nothing behind.
        if (sqlStateOf(error) === '42P01') return [];
        throw error;
      }
    },

    async ensure(connection) {
      if (made) return;
      // IF NOT EXISTS alone would ask for the privilege to create even where the table exists.
      const [found] = await connection.query<{ exists: boolean }>('SELECT to_regclass($1) IS NOT NULL AS exists', [
        table,
      ]);
      if (found?.exists !== true) await makeOnce(connection, createOffsetsTable(schema));
      made = true;
    },

    async begin(connection, commits) {
      // Two runs that take the same rows in one order cannot deadlock.
      const sorted = [...commits].sort((a, b) => (a.key < b.key ? -1 : 1));
      // Invariant 1. Each statement waits for a transaction that holds its row, and then sees what that one left.
      const statements = ['BEGIN ISOLATION LEVEL READ COMMITTED', ...sorted.map(compareAndSet)];
      const [, ...counts] = await asSystem(() => connection.run(statements.join(';')));
      const missed = sorted.filter((_, i) => counts[i] !== 1);
      if (missed.length === 0) return 'new';
      const keys = missed.map(({ key }) => key);
      const stored = await readKeys(connection, 'AND partition = ANY ($1)', [keys]);
      const byKey = new Map(stored.map((one) => [one.key, one]));
      // The commit is all or nothing: one offset with our writeId proves that all of it happened.
      if (missed.some(({ key, writeId }) => byKey.get(key)?.writeId === writeId)) return 'mine';
      const { key, seq } = missed[0]!;
      const found = byKey.get(key)?.seq ?? 'none';
      throw new ConnectError(
        'FENCED',
        `the offset of ${key} is at commit ${found} in ${table}, this batch was read at ${seq}: another run or an operator moved it; nothing of the batch was written`,
      );
    },

    async reset(connection, id, offsets) {
      const keyed = offsets.map(({ partition, offset }) => ({ key: partitionKey(partition), offset }));
      keyed.sort((a, b) => (a.key < b.key ? -1 : 1));
      const writeId = literal(`reset:${id}`);
      const statements = keyed.map(({ key, offset }) => {
        const text = literal(JSON.stringify(offset ?? null));
        return `INSERT INTO ${table} AS o (deployment, connector, incarnation, partition, seq, write_id, "offset", reset_id, v, updated_at)
          VALUES (${ownerSql}, ${literal(key)}, 1, ${writeId}, ${text}, ${literal(id)}, ${offsetsShape}, now())
          ON CONFLICT (deployment, connector, incarnation, partition) DO UPDATE SET seq = o.seq + 1, write_id = excluded.write_id,
            "offset" = excluded."offset", reset_id = excluded.reset_id, updated_at = now()
          WHERE o.reset_id IS DISTINCT FROM excluded.reset_id`;
      });
      // Statements sent together are one transaction.
      if (statements.length > 0) await asSystem(() => connection.run(statements.join(';')));
    },
  };
};

interface OffsetRow {
  readonly partition: string;
  readonly seq: string;
  readonly write_id: string;
  readonly offset: string | null;
  readonly v: number;
}

const storedOffset = ({ partition: key, seq, write_id: writeId, offset, v }: OffsetRow): StoredOffset => {
  if (v > offsetsShape)
    throw new ConnectError(
      'SHAPE_TOO_NEW',
      `the offset of ${key} in sluice_offsets has shape ${v}, this release reads ${offsetsShape}: use the release that wrote it`,
    );
  const partition = JSON.parse(key) as Partition;
  return { key, partition, offset: offset === null ? null : JSON.parse(offset), seq: Number(seq), writeId };
};

/** Whatever is wrong with an offset, no record is to blame for it. */
const asSystem = async <T>(work: () => Promise<T>): Promise<T> => {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ConnectError) || error.blame === 'system') throw error;
    throw new ConnectError('UNEXPECTED', `sluice_offsets: ${error.message}`, { cause: error });
  }
};
