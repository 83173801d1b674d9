import type { Identity, OffsetCommit } from '../../shared/connect/connector.ts';
import {
  asSystem,
  inKeyOrder,
  keyedPositions,
  missedOutcome,
  type OffsetRow,
  type OffsetTable,
  offsetsShape,
  offsetText,
  resetWith,
  storedOffset,
} from '../../shared/sql/offsets.ts';
import { type Connection, literal, sqlStateOf } from './client.ts';
import { makeOnce, sqlName } from './table.ts';

export const createOffsetsTable = (schema: string): string =>
  `CREATE TABLE IF NOT EXISTS ${sqlName({ schema, name: 'sluice_offsets' })} (
    deployment text, connector text, incarnation text, partition text,
    seq bigint NOT NULL, write_id text NOT NULL, "offset" text, reset_id text,
    v smallint NOT NULL, updated_at timestamptz NOT NULL,
    PRIMARY KEY (deployment, connector, incarnation, partition))`;

export const createOffsetTable = (
  schema: string,
  { deployment, connector, incarnation }: Identity,
): OffsetTable<Connection> => {
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
    const text = literal(offsetText(offset));
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
      const sorted = inKeyOrder(commits);
      // Invariant 1. Each statement waits for a transaction that holds its row, and then sees what that one left.
      const statements = ['BEGIN ISOLATION LEVEL READ COMMITTED', ...sorted.map(compareAndSet)];
      const [, ...counts] = await asSystem(() => connection.run(statements.join(';')));
      const missed = sorted.filter((_, i) => counts[i] !== 1);
      if (missed.length === 0) return 'new';
      const keys = missed.map(({ key }) => key);
      const stored = await readKeys(connection, 'AND partition = ANY ($1)', [keys]);
      return missedOutcome(missed, stored, table);
    },

    async reset(connection, id, positions, also) {
      const writeId = literal(`reset:${id}`);
      const statements = keyedPositions(positions).map(({ key, text }) => {
        return `INSERT INTO ${table} AS o (deployment, connector, incarnation, partition, seq, write_id, "offset", reset_id, v, updated_at)
          VALUES (${ownerSql}, ${literal(key)}, 1, ${writeId}, ${literal(text)}, ${literal(id)}, ${offsetsShape}, now())
          ON CONFLICT (deployment, connector, incarnation, partition) DO UPDATE SET seq = o.seq + 1, write_id = excluded.write_id,
            "offset" = excluded."offset", reset_id = excluded.reset_id, updated_at = now()
          WHERE o.reset_id IS DISTINCT FROM excluded.reset_id`;
      });
      const keys = keyedPositions(positions).map(({ key }) => key);
      const isKnown = async () => {
        const rows = await connection.query<{ reset_id: string | null }>(
          `SELECT reset_id FROM ${table} WHERE ${mine} AND partition = ANY ($1) FOR UPDATE`,
          [keys],
        );
        return rows.some(({ reset_id }) => reset_id === id);
      };
      await resetWith(connection, isKnown, statements, also);
    },
  };
};
