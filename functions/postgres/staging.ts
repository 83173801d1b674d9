import type { Identity } from '../../shared/connect/connector.ts';
import { createRunTable, type RunTable, type StagedRun } from '../../shared/sql/runs.ts';
import type { StagingTables } from '../../shared/sql/visibility.ts';
import { type Connection, literal, quote } from './client.ts';
import type { PostgresSinkConfig } from './config.ts';
import { loadTable, makeOnce, sqlName, tableOf } from './table.ts';

export const createPostgresRuns = (schema: string, identity: Identity): RunTable<Connection> => {
  const name = { schema, name: 'sluice_runs' };
  const table = sqlName(name);
  return createRunTable<Connection>(
    {
      table,
      literal,
      async make(connection) {
        // IF NOT EXISTS alone would ask for the privilege to create even where the table exists.
        if ((await loadTable(connection, name)) !== undefined) return;
        await makeOnce(
          connection,
          `CREATE TABLE IF NOT EXISTS ${table} (
            deployment text, connector text, incarnation text, staging text,
            topic text NOT NULL, run text NOT NULL, scope text NOT NULL, records bigint NOT NULL, written text,
            state text NOT NULL, v smallint NOT NULL,
            PRIMARY KEY (deployment, connector, incarnation, staging))`,
        );
      },
    },
    identity,
  );
};

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
