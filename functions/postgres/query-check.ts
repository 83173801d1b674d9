import type { OpenContext, Problem } from '../../shared/connect/connector.ts';
import { checkThrough } from '../../shared/sql/check.ts';
import { type Index, queryProblems } from '../../shared/sql/query-check.ts';
import { type Connection, connect, quote, sqlStateOf } from './client.ts';
import type { PostgresQueryConfig } from './query-config.ts';
import { createReader } from './query-reader.ts';
import type { PostgresTable } from './query-tables.ts';

const INSUFFICIENT_PRIVILEGE = '42501';

export const checkQuery = ({
  config,
  connector,
  signal,
}: OpenContext<PostgresQueryConfig>): Promise<readonly Problem[]> =>
  checkThrough(
    () => connect(config, `sluice ${connector} check`, signal),
    signal,
    (connection) =>
      queryProblems(config, createReader(connection, config), {
        indexes: ({ name, from }) => (name === undefined ? Promise.resolve(undefined) : indexesOf(connection, from)),
        grant: async (table, error) =>
          sqlStateOf(error) === INSUFFICIENT_PRIVILEGE ? grantOf(connection, table, error.message) : undefined,
      }),
  );

const grantOf = async (connection: Connection, { name, from }: PostgresTable, message: string): Promise<string> => {
  const [account] = await connection.query<{ role: string }>('SELECT current_user AS role');
  const role = quote(account!.role);
  return name !== undefined && message.includes('denied for schema')
    ? `GRANT USAGE ON SCHEMA ${from.slice(0, from.indexOf('.'))} TO ${role}; GRANT SELECT ON ${from} TO ${role}`
    : `GRANT SELECT ON ${name === undefined ? 'what the query reads' : from} TO ${role}`;
};

const indexesOf = async (connection: Connection, from: string): Promise<readonly Index[] | undefined> => {
  const [table] = await connection.query<{ kind: string }>(
    'SELECT relkind AS kind FROM pg_class WHERE oid = $1::regclass',
    [from],
  );
  if (table?.kind !== 'r' && table?.kind !== 'p') return undefined;
  return connection.query<Index>(
    `SELECT i.indisunique AND i.indpred IS NULL AS "isUnique",
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, at)
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE k.at <= i.indnkeyatts ORDER BY k.at) AS columns
     FROM pg_index i WHERE i.indrelid = $1::regclass AND i.indisvalid`,
    [from],
  );
};
