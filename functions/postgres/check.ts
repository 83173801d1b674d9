import type { OpenContext, Problem } from '../../shared/connect/connector.ts';
import { isOneTable } from '../../shared/connect/database-config.ts';
import { checkThrough, told } from '../../shared/sql/check.ts';
import type { TableName } from '../../shared/sql/table.ts';
import { type Connection, connect, quote } from './client.ts';
import type { PostgresSinkConfig } from './config.ts';
import { createOffsetsTable } from './offsets.ts';
import { createRunsTable, createStagedTable } from './staging.ts';
import { keyProblem, loadTable, sqlName, tableOf } from './table.ts';

/** Every problem at once, with the statement that mends it. */
export const checkSink = ({
  config,
  connector,
  signal,
}: OpenContext<PostgresSinkConfig>): Promise<readonly Problem[]> =>
  checkThrough(
    () => connect(config, `sluice ${connector} check`, signal),
    signal,
    async (connection) => {
      const role = await connection.query<Server>(serverQuery, [config.schema]);
      return [
        ...serverProblems(role[0]!, config),
        ...(await ownTableProblems(connection, role[0]!, config)),
        ...(isOneTable(config.table) ? await tableProblems(connection, role[0]!, config).catch(told) : []),
      ];
    },
  );

interface Server {
  readonly role: string;
  readonly database: string;
  readonly readOnly: boolean;
  readonly mayMakeTemporary: boolean;
  readonly schemaExists: boolean;
  readonly mayUse: boolean;
  readonly mayCreate: boolean;
}

const serverQuery = `SELECT current_user AS role, current_database() AS database,
  pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean AS "readOnly",
  has_database_privilege(current_database(), 'TEMPORARY') AS "mayMakeTemporary",
  EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS "schemaExists",
  coalesce((SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = $1), false) AS "mayUse",
  coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = $1), false) AS "mayCreate"`;

const serverProblems = ({ role, database, ...server }: Server, config: PostgresSinkConfig): Problem[] => {
  const problems: Problem[] = [];
  if (server.readOnly) problems.push(`database ${database} is read-only: connect to the primary server`);
  if (config.mode !== 'insert' && !server.mayMakeTemporary)
    problems.push(
      `role ${role} may make no temporary tables, which upsert needs: GRANT TEMPORARY ON DATABASE ${quote(database)} TO ${quote(role)}`,
    );
  if (!server.schemaExists) problems.push(`schema ${config.schema} is missing: CREATE SCHEMA ${quote(config.schema)}`);
  else if (config.visibility === 'batch' && !server.mayCreate)
    problems.push(
      `role ${role} may create no tables in schema ${config.schema}, which the rows of a run wait in: GRANT CREATE, USAGE ON SCHEMA ${quote(config.schema)} TO ${quote(role)}`,
    );
  else if (config.create && !server.mayCreate)
    problems.push(
      `role ${role} may create no tables in schema ${config.schema}: GRANT CREATE, USAGE ON SCHEMA ${quote(config.schema)} TO ${quote(role)}, or make them yourself and set create: false`,
    );
  else if (!server.mayUse)
    problems.push(
      `role ${role} may not use schema ${config.schema}: GRANT USAGE ON SCHEMA ${quote(config.schema)} TO ${quote(role)}`,
    );
  return problems;
};

/** Tables that the sink keeps its own account in, and what it does with them. */
const ownTables = ({ schema, transactions, visibility }: PostgresSinkConfig) => [
  { name: 'sluice_offsets', statement: createOffsetsTable(schema), needed: ['SELECT', 'INSERT', 'UPDATE'] },
  ...(transactions === 'atomic'
    ? [{ name: 'sluice_staged', statement: createStagedTable(schema), needed: ['SELECT', 'INSERT', 'DELETE'] }]
    : []),
  ...(visibility === 'batch'
    ? [{ name: 'sluice_runs', statement: createRunsTable(schema), needed: ['SELECT', 'INSERT', 'UPDATE', 'DELETE'] }]
    : []),
];

const ownTableProblems = async (
  connection: Connection,
  server: Server,
  config: PostgresSinkConfig,
): Promise<Problem[]> => {
  const { schema } = config;
  const problems: Problem[] = [];
  for (const { name, statement, needed } of ownTables(config)) {
    if ((await loadTable(connection, { schema, name })) !== undefined)
      problems.push(...(await privilegeProblems(connection, server, { schema, name }, needed)));
    // With `create` the missing privilege is named already.
    else if (!server.mayCreate && !config.create && server.schemaExists)
      problems.push(
        `table ${sqlName({ schema, name })} is missing and role ${server.role} may not make it: ${statement}`,
      );
  }
  return problems;
};

const tableProblems = async (
  connection: Connection,
  server: Server,
  config: PostgresSinkConfig,
): Promise<Problem[]> => {
  const name = tableOf('', config);
  const table = await loadTable(connection, name);
  if (table === undefined)
    return config.create
      ? []
      : [`table ${sqlName(name)} is missing, and create is false: make it, or set create: true`];
  const problems = await privilegeProblems(
    connection,
    server,
    name,
    config.mode === 'insert' ? ['INSERT'] : ['SELECT', 'INSERT', 'UPDATE', 'DELETE'],
  );
  return [...problems, ...keyProblem(table, config.keyFields ?? [])];
};

const privilegeProblems = async (
  connection: Connection,
  { role }: Server,
  name: TableName,
  needed: readonly string[],
): Promise<Problem[]> => {
  const table = sqlName(name);
  const [held] = await connection.query<{ held: readonly boolean[] }>(
    `SELECT array_agg(has_table_privilege(c.oid, needed) ORDER BY at) AS held
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, unnest($3::text[]) WITH ORDINALITY AS p(needed, at)
     WHERE n.nspname = $1 AND c.relname = $2`,
    [name.schema, name.name, needed],
  );
  const missing = needed.filter((_, i) => !held!.held[i]);
  if (missing.length === 0) return [];
  const list = missing.join(', ');
  return [`role ${role} may not ${list} on ${table}: GRANT ${list} ON ${table} TO ${quote(role)}`];
};
