import { bufferOf } from '../../shared/connect/buffers.ts';
import type { Identity } from '../../shared/connect/connector.ts';
import { createRunTable, type RunTable, type SqlTable, type StagedRun } from '../../shared/sql/runs.ts';
import { createStagedBatches, type StagedBatches } from '../../shared/sql/staged-batches.ts';
import type { StagingTables } from '../../shared/sql/visibility.ts';
import { type Connection, literal, quote } from './client.ts';
import type { PostgresSinkConfig } from './config.ts';
import { loadTable, makeOnce, sqlName, tableOf } from './table.ts';

const createTable = (schema: string, name: string, columns: string): string =>
  `CREATE TABLE IF NOT EXISTS ${sqlName({ schema, name })} (deployment text, connector text, incarnation text, ${columns})`;

export const createRunsTable = (schema: string): string =>
  createTable(
    schema,
    'sluice_runs',
    `staging text, topic text NOT NULL, run text NOT NULL, scope text NOT NULL, records bigint NOT NULL, written text,
     state text NOT NULL, v smallint NOT NULL, PRIMARY KEY (deployment, connector, incarnation, staging)`,
  );

export const createStagedTable = (schema: string): string =>
  createTable(
    schema,
    'sluice_staged',
    `lane text, number integer, part integer, meta text NOT NULL, body bytea NOT NULL, v smallint NOT NULL,
     PRIMARY KEY (deployment, connector, incarnation, lane, number, part)`,
  );

/** A table of the sink's own, in its schema. */
const ownTable = (schema: string, name: string, statement: string): SqlTable<Connection> => ({
  table: sqlName({ schema, name }),
  literal,
  async make(connection) {
    // IF NOT EXISTS alone would ask for the privilege to create even where the table exists.
    if ((await loadTable(connection, { schema, name })) === undefined) await makeOnce(connection, statement);
  },
});

export const createPostgresRuns = (schema: string, identity: Identity): RunTable<Connection> =>
  createRunTable(ownTable(schema, 'sluice_runs', createRunsTable(schema)), identity);

export const createPostgresStaged = (schema: string, identity: Identity): StagedBatches<Connection> =>
  createStagedBatches(
    {
      ...ownTable(schema, 'sluice_staged', createStagedTable(schema)),
      bytesLiteral: (bytes) => `'\\x${bufferOf(bytes).toString('hex')}'::bytea`,
    },
    identity,
  );

export const createStagingTables = (connection: Connection, config: PostgresSinkConfig): StagingTables => {
  const namesOf = ({ topic, staging }: StagedRun) => {
    const name = tableOf(topic, config);
    return { name, table: sqlName(name), staged: sqlName({ schema: name.schema, name: staging }) };
  };
  return {
    tableName: (topic) => tableOf(topic, config).name,
    async publish(run) {
      const { name, table, staged } = namesOf(run);
      const isEmptied = run.scope === 'replace';
      if (run.written === undefined)
        return isEmptied && (await loadTable(connection, name)) !== undefined ? [`DELETE FROM ${table}`] : [];
      const { columns, key } = run.written;
      const names = columns.map(quote);
      const keys = key.map(quote);
      const insert = `INSERT INTO ${table} (${names.join(', ')}) OVERRIDING SYSTEM VALUE SELECT ${names.join(', ')} FROM ${staged}`;
      if (keys.length === 0) return [...(isEmptied ? [`DELETE FROM ${table}`] : []), insert];
      const same = keys.map((one) => `s.${one} = t.${one}`).join(' AND ');
      const others = names.filter((one) => !keys.includes(one));
      const update =
        others.length === 0 ? 'NOTHING' : `UPDATE SET ${others.map((one) => `${one} = excluded.${one}`).join(', ')}`;
      return [
        // Rows that stay are updated, so that what refers to them is neither in the way nor deleted with them.
        ...(isEmptied ? [`DELETE FROM ${table} t WHERE NOT EXISTS (SELECT FROM ${staged} s WHERE ${same})`] : []),
        `${insert} ORDER BY ${keys.join(', ')} ON CONFLICT (${keys.join(', ')}) DO ${update}`,
      ];
    },
    async drop(run) {
      await connection.run(`DROP TABLE IF EXISTS ${namesOf(run).staged}`);
    },
  };
};
