import { createHash } from 'node:crypto';
import type { Identity, OffsetCommit } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
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
import { type Connection, literal } from './client.ts';
import { errnoOf } from './errors.ts';
import { engineProblem, loadTable, makeOnce, sqlName } from './table.ts';

/** A partition is as long as it likes, a key of MySQL is not: its hash is in the key. */
export const createOffsetsTable = (database: string): string =>
  `CREATE TABLE IF NOT EXISTS ${sqlName({ schema: database, name: 'sluice_offsets' })} (
    deployment varchar(200) NOT NULL, connector varchar(200) NOT NULL, incarnation varchar(200) NOT NULL,
    partition_hash binary(32) NOT NULL, \`partition\` longtext NOT NULL,
    seq bigint NOT NULL, write_id varchar(255) NOT NULL, \`offset\` longtext, reset_id varchar(255),
    v smallint NOT NULL, updated_at datetime(6) NOT NULL,
    PRIMARY KEY (deployment, connector, incarnation, partition_hash)) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`;

const NO_SUCH_TABLE = 1146;

/** The offsets of one connector, in the database that the connection is in. */
export const createOffsetTable = ({ deployment, connector, incarnation }: Identity): OffsetTable<Connection> => {
  // Unqualified: the session's own database.
  const table = '`sluice_offsets`';
  const owner = [deployment, connector, incarnation].map(literal).join(', ');
  const mine = `(deployment, connector, incarnation) = (${owner})`;
  const columns =
    'deployment, connector, incarnation, partition_hash, `partition`, seq, write_id, `offset`, reset_id, v';
  let made = false;

  const readKeys = async (connection: Connection, where: string) => {
    const rows = await connection.query<OffsetRow>(
      `SELECT \`partition\`, seq, write_id, \`offset\`, v FROM ${table} WHERE ${mine} ${where}`,
    );
    return rows.map(storedOffset);
  };

  const rowOf = (key: string, writeId: string, text: string, resetId: string) =>
    `(${owner}, ${hashOf(key)}, ${literal(key)}, 1, ${writeId}, ${literal(text)}, ${resetId}, ${offsetsShape}, NOW(6))`;

  const compareAndSet = ({ key, seq, writeId, offset }: OffsetCommit): string => {
    const text = offsetText(offset);
    // A row that is there stays as it is, and is not counted.
    if (seq === 0)
      return `INSERT INTO ${table} (${columns}, updated_at) VALUES ${rowOf(key, literal(writeId), text, 'NULL')} ON DUPLICATE KEY UPDATE seq = seq`;
    return `UPDATE ${table} SET seq = seq + 1, write_id = ${literal(writeId)}, \`offset\` = ${literal(text)}, updated_at = NOW(6)
      WHERE ${mine} AND partition_hash = ${hashOf(key)} AND seq = ${seq} AND v = ${offsetsShape}`;
  };

  return {
    async read(connection) {
      try {
        const stored = await readKeys(connection, '');
        made = true;
        return stored;
      } catch (error) {
        // A first run that finds nothing to do leaves nothing behind.
        if (errnoOf(error) === NO_SUCH_TABLE) return [];
        throw error;
      }
    },

    async ensure(connection) {
      if (made) return;
      const { database } = connection.server;
      const name = { schema: database, name: 'sluice_offsets' };
      // IF NOT EXISTS alone would ask for the privilege to create even where the table exists.
      if ((await loadTable(connection, name)) === undefined) await makeOnce(connection, createOffsetsTable(database));
      const [problem] = engineProblem((await loadTable(connection, name))!);
      if (problem !== undefined) throw new ConnectError('CONFIG_INVALID', problem);
      made = true;
    },

    async begin(connection, commits) {
      const sorted = inKeyOrder(commits);
      // Invariant 1. Each statement waits for a transaction that holds its row, and then sees what that one left.
      const statements = ['START TRANSACTION', ...sorted.map(compareAndSet)];
      const [, ...counts] = await asSystem(() => connection.run(statements.join(';')));
      const missed = sorted.filter((_, i) => counts[i] !== 1);
      if (missed.length === 0) return 'new';
      const hashes = missed.map(({ key }) => hashOf(key));
      const stored = await readKeys(connection, `AND partition_hash IN (${hashes.join(', ')})`);
      return missedOutcome(missed, stored, table);
    },

    async reset(connection, id, positions, also) {
      const resetId = literal(id);
      const isNew = 'NOT reset_id <=> VALUES(reset_id)';
      // An assignment sees those before it, so what is asked is assigned last.
      const statements = keyedPositions(positions).map(
        ({
          key,
          text,
        }) => `INSERT INTO ${table} (${columns}, updated_at) VALUES ${rowOf(key, literal(`reset:${id}`), text, resetId)}
          ON DUPLICATE KEY UPDATE seq = IF(${isNew}, seq + 1, seq), write_id = IF(${isNew}, VALUES(write_id), write_id),
            \`offset\` = IF(${isNew}, VALUES(\`offset\`), \`offset\`), updated_at = IF(${isNew}, NOW(6), updated_at), reset_id = VALUES(reset_id)`,
      );
      const hashes = keyedPositions(positions).map(({ key }) => hashOf(key));
      const isKnown = async () => {
        const rows = await connection.query<{ reset_id: string | null }>(
          `SELECT reset_id FROM ${table} WHERE ${mine} AND partition_hash IN (${hashes.join(', ')}) FOR UPDATE`,
        );
        return rows.some(({ reset_id }) => reset_id === id);
      };
      await resetWith(connection, isKnown, statements, also);
    },
  };
};

const hashOf = (key: string): string => `x'${createHash('sha256').update(key).digest('hex')}'`;
