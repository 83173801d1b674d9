import type { OpenContext, Problem } from '../../shared/connect/connector.ts';
import { toConnectError } from '../../shared/connect/errors.ts';
import { catalogOf } from './catalog.ts';
import type { MysqlCdcConfig } from './cdc-config.ts';
import { idlePatterns, tablesOf } from './cdc-tables.ts';
import { type Connection, connect } from './client.ts';

/** Every reason why changes could not be captured, with what mends it. */
export const checkSource = async ({
  config,
  connector,
  signal,
}: OpenContext<MysqlCdcConfig>): Promise<readonly Problem[]> => {
  let connection: Connection | undefined;
  try {
    connection = await connect(config, `sluice ${connector}`, signal);
    return [
      ...(await variableProblems(connection, config)),
      ...(await privilegeProblems(connection)),
      ...(await tableProblems(connection, config)),
    ];
  } catch (error) {
    return [toConnectError(error).message];
  } finally {
    await connection?.close();
  }
};

/** What a variable must be, and how it gets so. */
const wanted: readonly (readonly [name: string, value: string, fix: string])[] = [
  ['log_bin', 'ON', 'start the server with log_bin'],
  ['binlog_format', 'ROW', 'SET GLOBAL binlog_format = ROW, and in its configuration, for sessions that begin then'],
  ['binlog_row_image', 'FULL', 'SET GLOBAL binlog_row_image = FULL, and in its configuration'],
  [
    'binlog_row_metadata',
    'FULL',
    'SET GLOBAL binlog_row_metadata = FULL, and in its configuration: columns then have names in the log',
  ],
];

const variableProblems = async (connection: Connection, config: MysqlCdcConfig): Promise<readonly Problem[]> => {
  const rows = await connection.query<{ Variable_name: string; Value: string }>(
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format', 'binlog_row_image', 'binlog_row_metadata', 'gtid_mode', 'binlog_transaction_compression')",
  );
  const values = new Map(rows.map(({ Variable_name, Value }) => [Variable_name.toLowerCase(), Value]));
  const problems = wanted.flatMap(([name, value, fix]) => {
    const found = values.get(name);
    return found === undefined || found === value ? [] : [`${name} is ${found}, and ${value} is needed: ${fix}`];
  });
  // MariaDB has no such variable, and always has GTIDs.
  const mode = values.get('gtid_mode') ?? 'ON';
  if (mode !== 'ON' && config.snapshotMode !== 'never')
    problems.push(
      `gtid_mode is ${mode}, and ON is needed to tell what rows have seen: set enforce_gtid_consistency to ON, then gtid_mode to OFF_PERMISSIVE, ON_PERMISSIVE and ON`,
    );
  if (values.get('binlog_transaction_compression') === 'ON')
    problems.push(
      'binlog_transaction_compression is ON, which is not read: SET GLOBAL binlog_transaction_compression = OFF, and in its configuration',
    );
  return problems;
};

/** By trying: what an account may do is in more places than its grants. */
const privilegeProblems = async (connection: Connection): Promise<readonly Problem[]> => {
  const [account] = await connection.query<{ name: string }>("SELECT REPLACE(CURRENT_USER(), '@', '`@`') AS name");
  const grant = (privilege: string) => `GRANT ${privilege} ON *.* TO \`${account!.name}\``;
  const tried = [
    ['SHOW BINARY LOGS', 'REPLICATION CLIENT'],
    ['SHOW SLAVE HOSTS', 'REPLICATION SLAVE'],
  ] as const;
  const problems: Problem[] = [];
  for (const [statement, privilege] of tried)
    await connection.query(statement).catch((error: unknown) => {
      const { errno } = (error as { readonly cause: { readonly errno?: number } }).cause;
      if (errno === ACCESS_DENIED) problems.push(`the account lacks ${privilege}: ${grant(privilege)}`);
    });
  return problems;
};

/** Access denied; you need (at least one of) the … privilege(s). */
const ACCESS_DENIED = 1227;

const tableProblems = async (connection: Connection, config: MysqlCdcConfig): Promise<readonly Problem[]> => {
  const tables = await tablesOf(connection, config);
  const catalog = await catalogOf(connection, tables);
  const idle = idlePatterns(config, tables).map(
    (pattern) => `no table matches ${pattern}, or the account may not read them: GRANT SELECT ON them TO it`,
  );
  const problems = tables.flatMap((table) => {
    const found = catalog.get(table);
    if (found === undefined)
      return [`there is no table ${table}, or the account may not read it: GRANT SELECT ON ${table} TO it`];
    return found.key.length > 0
      ? []
      : [
          `${table} has no primary key, so its changes have no order and no row to go to: ALTER TABLE ${table} ADD PRIMARY KEY (…)`,
        ];
  });
  return [...idle, ...problems];
};
