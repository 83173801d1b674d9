import type { OpenContext } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { tableFilter } from '../../shared/connect/table-names.ts';
import type { PostgresCdcConfig } from './cdc-config.ts';
import { type Connection, literal, quote } from './client.ts';
import { readSlot, slotNames } from './slot.ts';

/** A table as the catalog has it now. */
export interface PublishedTable {
  readonly schema: string;
  readonly name: string;
  /** pg_class.relreplident. */
  readonly identity: string;
  readonly hasKey: boolean;
  /** As of its last ANALYZE; -1: there was none. */
  readonly rows: number;
  readonly maySelect: boolean;
  /** Its schema. */
  readonly mayUse: boolean;
  /** By a policy for the role. */
  readonly hidesRows: boolean;
  readonly isOwned: boolean;
  readonly isPublished: boolean;
}

const tablesQuery = `SELECT n.nspname AS schema, c.relname AS name, c.relreplident AS identity,
    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) AS "hasKey", c.reltuples AS rows,
    has_table_privilege(c.oid, 'SELECT') AS "maySelect", has_schema_privilege(n.oid, 'USAGE') AS "mayUse",
    row_security_active(c.oid) AS "hidesRows", pg_has_role(c.relowner, 'USAGE') AS "isOwned",
    EXISTS (SELECT FROM pg_publication_tables p WHERE p.pubname = $1 AND p.schemaname = n.nspname AND p.tablename = c.relname) AS "isPublished"
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  ORDER BY 1, 2`;

/** The tables that the config names. */
export const includedTables = async (
  connection: Connection,
  config: PostgresCdcConfig,
  publication: string,
): Promise<readonly PublishedTable[]> => {
  const isIncluded = tableFilter(config);
  const all = await connection.query<PublishedTable>(tablesQuery, [publication]);
  return all.filter(({ schema, name }) => isIncluded(`${schema}.${name}`));
};

/** Names of the published tables, as schema.table, for which `isIncluded`. */
export const publishedTables = async (
  connection: Connection,
  publication: string,
  isIncluded: (table: string) => boolean,
): Promise<readonly string[]> => {
  const rows = await connection.query<{ name: string }>(
    `SELECT schemaname || '.' || tablename AS name FROM pg_publication_tables WHERE pubname = $1`,
    [publication],
  );
  return rows.map(({ name }) => name).filter(isIncluded);
};

/**
 * Throws where a table that the config names is there and its changes are not told. DROP TABLE takes a table out of its publication, and one that
 * is made again under its name is not in it: what is written to it would be passed over in silence (invariant 7).
 */
export const requirePublished = async (
  connection: Connection,
  config: PostgresCdcConfig,
  publication: string,
): Promise<void> => {
  const [found] = await connection.query<{ schema: string; name: string }>(
    `SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND n.nspname || '.' || c.relname = ANY ($2)
       AND (n.nspname, c.relname) NOT IN (SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = $1)
     ORDER BY 1, 2`,
    [publication, config.tables.filter(tableFilter(config))],
  );
  if (found === undefined) return;
  const { schema, name } = found;
  const offset = JSON.stringify({ server: config.topicPrefix, table: `${schema}.${name}` });
  throw new ConnectError(
    'CONFIG_INVALID',
    `publication ${publication} lacks ${schema}.${name}, which was made again or taken out of it, and changes of it are not told: ALTER PUBLICATION ${quote(publication)} ADD TABLE ${quote(schema)}.${quote(name)}, and have its rows read again by sluice offsets set CONNECTOR '${offset}' null; or take it out of tables`,
  );
};

/** Tables of the config, not patterns, that are not there. */
export const missingTables = (config: PostgresCdcConfig, tables: readonly PublishedTable[]): readonly string[] => {
  const found = new Set(tables.map(({ schema, name }) => `${schema}.${name}`));
  return config.tables.filter((table) => !table.includes('*') && !found.has(table));
};

/** So that a publication of somebody else is left alone. */
const mark = (deployment: string, connector: string) => `made by Sluice for connector ${connector} of ${deployment}`;

const readPublication = async (connection: Connection, name: string): Promise<{ mark: string | null } | undefined> => {
  const [found] = await connection.query<{ mark: string | null }>(
    `SELECT obj_description(oid, 'pg_publication') AS mark FROM pg_publication WHERE pubname = $1`,
    [name],
  );
  return found;
};

/** The publication first: of changes before it the server says that it does not exist. Both may be there from an earlier try. */
export const makeUpstream = async (
  connection: Connection,
  { config, deployment, connector }: OpenContext<PostgresCdcConfig>,
): Promise<void> => {
  const names = slotNames(config, { deployment, connector, incarnation: '' });
  const ours = mark(deployment, connector);
  const tables = await includedTables(connection, config, names.publication);
  const list = tables.map(({ schema, name }) => `${quote(schema)}.${quote(name)}`).join(', ');
  const found = await readPublication(connection, names.publication);
  if (found === undefined || found.mark === ours) {
    const missing = missingTables(config, tables);
    if (missing.length > 0 || tables.length === 0)
      throw new ConnectError(
        'CONFIG_INVALID',
        `tables: there is no table ${(missing.length > 0 ? missing : config.tables).join(', ')}`,
      );
    const publication = quote(names.publication);
    await connection.run(
      found === undefined
        ? `BEGIN; CREATE PUBLICATION ${publication} FOR TABLE ${list} WITH (publish_via_partition_root = true);
           COMMENT ON PUBLICATION ${publication} IS ${literal(ours)}; COMMIT`
        : `ALTER PUBLICATION ${publication} SET TABLE ${list}`,
    );
  }
  const { slot, version } = await readSlot(connection, names.slot);
  if (slot !== undefined) return;
  const failover = config.slotFailover && Number.parseInt(version, 10) >= 17 ? ', failover => true' : '';
  await connection.query(`SELECT pg_create_logical_replication_slot($1, 'pgoutput'${failover})`, [names.slot]);
};

/** Says what is left: whoever removes the connector has to know, for a slot keeps WAL until the disk is full. */
export const dropUpstream = async (
  connection: Connection,
  { config, deployment, connector }: OpenContext<PostgresCdcConfig>,
): Promise<void> => {
  const names = slotNames(config, { deployment, connector, incarnation: '' });
  const left: string[] = [];
  const attempt = (work: Promise<unknown>, what: string) =>
    work.catch((error: Error) => left.push(`${what} (${error.message})`));
  await attempt(
    connection.query('SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1', [
      names.slot,
    ]),
    `replication slot ${names.slot}, which keeps WAL until the disk is full: SELECT pg_drop_replication_slot('${names.slot}')`,
  );
  const found = await readPublication(connection, names.publication);
  if (found?.mark === mark(deployment, connector)) {
    const drop = `DROP PUBLICATION IF EXISTS ${quote(names.publication)}`;
    await attempt(connection.run(drop), `publication ${names.publication}: ${drop}`);
  }
  if (left.length > 0) throw new ConnectError('STATE_CONFLICT', `left at PostgreSQL: ${left.join('; ')}`);
};
