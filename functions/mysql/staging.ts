import { bufferOf } from '../../shared/connect/buffers.ts';
import type { Identity } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { createRunTable, type RunTable, type SqlTable, type StagedRun } from '../../shared/sql/runs.ts';
import { createStagedBatches, type StagedBatches } from '../../shared/sql/staged-batches.ts';
import type { StagingTables } from '../../shared/sql/visibility.ts';
import { type Connection, literal, quote } from './client.ts';
import type { MysqlSinkConfig } from './config.ts';
import { engineProblem, loadTable, makeOnce, sqlName, tableOf } from './table.ts';
import { upsertOf } from './target.ts';

const createTable = (database: string, name: string, columns: string): string =>
  `CREATE TABLE IF NOT EXISTS ${sqlName({ schema: database, name })} (deployment varchar(200) NOT NULL, connector varchar(200) NOT NULL,
    incarnation varchar(200) NOT NULL, ${columns}) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`;

export const createRunsTable = (database: string): string =>
  createTable(
    database,
    'sluice_runs',
    `staging varchar(64) NOT NULL, topic longtext NOT NULL, run longtext NOT NULL, scope varchar(16) NOT NULL,
     records bigint NOT NULL, written longtext, state varchar(16) NOT NULL, v smallint NOT NULL,
     PRIMARY KEY (deployment, connector, incarnation, staging)`,
  );

export const createStagedTable = (database: string): string =>
  createTable(
    database,
    'sluice_staged',
    `lane char(64) NOT NULL, number integer NOT NULL, part integer NOT NULL, meta longtext NOT NULL, body longblob NOT NULL, v smallint NOT NULL,
     PRIMARY KEY (deployment, connector, incarnation, lane, number, part)`,
  );

/** A table of the sink's own, in the database that the connection is in. */
const ownTable = (name: string, statement: (database: string) => string): SqlTable<Connection> => ({
  table: quote(name),
  literal,
  async make(connection) {
    const { database } = connection.server;
    const full = { schema: database, name };
    // IF NOT EXISTS alone would ask for the privilege to create even where the table exists.
    if ((await loadTable(connection, full)) === undefined) await makeOnce(connection, statement(database));
    const [problem] = engineProblem((await loadTable(connection, full))!);
    if (problem !== undefined) throw new ConnectError('CONFIG_INVALID', problem);
  },
});

export const createMysqlRuns = (identity: Identity): RunTable<Connection> =>
  createRunTable(ownTable('sluice_runs', createRunsTable), identity);

export const createMysqlStaged = (identity: Identity): StagedBatches<Connection> =>
  createStagedBatches(
    {
      ...ownTable('sluice_staged', createStagedTable),
      bytesLiteral: (bytes) => `x'${bufferOf(bytes).toString('hex')}'`,
    },
    identity,
  );

export const createStagingTables = (connection: Connection, config: MysqlSinkConfig): StagingTables => {
  const { database } = connection.server;
  const namesOf = ({ topic, staging }: StagedRun) => {
    const name = tableOf(topic, config, database);
    return { name, table: sqlName(name), staged: sqlName({ schema: name.schema, name: staging }) };
  };
  return {
    tableName: (topic) => tableOf(topic, config, database).name,
    async publish(run) {
      const { name, table, staged } = namesOf(run);
      const isEmptied = run.scope === 'replace';
      // Not TRUNCATE, which commits.
      if (run.written === undefined)
        return isEmptied && (await loadTable(connection, name)) !== undefined ? [`DELETE FROM ${table}`] : [];
      const { columns, key } = run.written;
      const names = columns.map(quote).join(', ');
      const insert = `INSERT INTO ${table} (${names}) SELECT ${names} FROM ${staged}`;
      if (key.length === 0) return [...(isEmptied ? [`DELETE FROM ${table}`] : []), insert];
      const keys = key.map(quote);
      const same = keys.map((one) => `s.${one} = ${table}.${one}`).join(' AND ');
      return [
        // Rows that stay are updated, so that what refers to them is neither in the way nor deleted with them.
        ...(isEmptied ? [`DELETE FROM ${table} WHERE NOT EXISTS (SELECT 1 FROM ${staged} s WHERE ${same})`] : []),
        `${insert} ORDER BY ${keys.join(', ')}${upsertOf(table, columns, key)}`,
      ];
    },
    async drop(run) {
      await connection.run(`DROP TABLE IF EXISTS ${namesOf(run).staged}`);
    },
  };
};
