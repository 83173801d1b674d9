import type { OpenContext, Problem } from '../../shared/connect/connector.ts';
import { checkThrough } from '../../shared/sql/check.ts';
import { type Index, queryProblems } from '../../shared/sql/query-check.ts';
import { type Connection, connect } from './client.ts';
import { grantFor } from './grants.ts';
import type { PostgresQueryConfig } from './query-config.ts';
import { createReader } from './query-reader.ts';

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
        grant: ({ name, from }, error) => grantFor(connection, name === undefined ? undefined : from, error),
      }),
  );

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
