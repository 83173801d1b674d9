import type { OpenContext, Problem } from '../../shared/connect/connector.ts';
import { isCode } from '../../shared/connect/errors.ts';
import { checkThrough } from '../../shared/sql/check.ts';
import type { PostgresCdcConfig } from './cdc-config.ts';
import { connect, quote } from './client.ts';
import { readGrants } from './grants.ts';
import { includedTables, missingTables, type PublishedTable } from './publication.ts';
import { readSlot, requirePosition, type SlotNames, type SlotState, slotNames } from './slot.ts';

/** Every problem at once, with the statement that mends it. */
export const checkCdc = (context: OpenContext<PostgresCdcConfig>): Promise<readonly Problem[]> => {
  const { config, connector, signal } = context;
  const names = slotNames(config, context);
  const open = () => connect(config, `sluice ${connector} check`, signal);
  return checkThrough(open, signal, async (connection) => {
    const [server] = await connection.query<Server>(serverQuery, [names.publication]);
    // Nothing else can be asked of a standby.
    if (server!.isStandby) return ['the server is a standby: connect to the primary server'];
    const state = await readSlot(connection, names.slot);
    const tables = await includedTables(connection, config, names.publication);
    return [
      ...serverProblems(server!, state, names),
      ...slotProblems(state, names),
      ...publicationProblems(server!, tables, names),
      ...missingTables(config, tables).map((table) => `there is no table ${table}: make it, or mend tables`),
      ...tables.flatMap((table) => tableProblems(server!, table)),
      ...(config.snapshotMode === 'initial' ? tables.flatMap((table) => rowProblems(server!, table)) : []),
    ];
  });
};

interface Server {
  readonly role: string;
  readonly database: string;
  readonly version: number;
  readonly isStandby: boolean;
  readonly walLevel: string;
  readonly maxSlots: number;
  readonly slots: number;
  readonly mayReplicate: boolean;
  readonly mayCreate: boolean;
  readonly hasPublication: boolean;
}

/** On RDS the right to replicate is a role's. */
const serverQuery = `SELECT current_user AS role, current_database() AS database, pg_is_in_recovery() AS "isStandby",
  current_setting('server_version_num')::int AS version, current_setting('wal_level') AS "walLevel",
  current_setting('max_replication_slots')::int AS "maxSlots", (SELECT count(*)::int FROM pg_replication_slots) AS slots,
  rolreplication OR rolsuper OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname = 'rds_replication' AND pg_has_role(r.oid, 'USAGE')) AS "mayReplicate",
  has_database_privilege(current_database(), 'CREATE') AS "mayCreate",
  EXISTS (SELECT FROM pg_publication WHERE pubname = $1) AS "hasPublication"
  FROM pg_roles WHERE rolname = current_user`;

const serverProblems = (server: Server, state: SlotState, { slot }: SlotNames): Problem[] => {
  const { role, walLevel, maxSlots, slots } = server;
  const problems: Problem[] = [];
  if (server.version < 140_000) problems.push(`the server is PostgreSQL ${state.version}: needed is 14 or newer`);
  if (walLevel !== 'logical')
    problems.push(
      `wal_level is ${walLevel}: ALTER SYSTEM SET wal_level = logical, and restart the server (on RDS: rds.logical_replication = 1 in its parameter group)`,
    );
  if (!server.mayReplicate)
    problems.push(
      `role ${role} may not read changes: ALTER ROLE ${quote(role)} REPLICATION (on RDS: GRANT rds_replication TO ${quote(role)})`,
    );
  if (state.slot === undefined && slots >= maxSlots)
    problems.push(
      `all ${maxSlots} replication slots are taken, ${slot} needs one: ALTER SYSTEM SET max_replication_slots = ${maxSlots + 5}, and restart the server, or drop one that pg_replication_slots shows as inactive`,
    );
  return problems;
};

const slotProblems = (state: SlotState, names: SlotNames): Problem[] => {
  if (state.slot === undefined) return [];
  try {
    requirePosition(state, names, undefined);
  } catch (error) {
    if (isCode(error, 'CONFIG_INVALID') || isCode(error, 'LOST_POSITION')) return [error.message];
    throw error;
  }
  return [];
};

const publicationProblems = (
  { role, database, mayCreate, hasPublication }: Server,
  tables: readonly PublishedTable[],
  { publication }: SlotNames,
): Problem[] => {
  if (!hasPublication)
    return mayCreate
      ? []
      : [
          `role ${role} may not make publication ${publication}: GRANT CREATE ON DATABASE ${quote(database)} TO ${quote(role)}, or have the owner of the tables make it and name it as publicationName`,
        ];
  const missing = tables.filter(({ isPublished, isOwned }) => !isPublished && !isOwned).map(sqlName);
  return missing.length === 0
    ? []
    : [
        `publication ${publication} lacks ${missing.join(', ')}: ALTER PUBLICATION ${quote(publication)} ADD TABLE ${missing.join(', ')}`,
      ];
};

const sqlName = ({ schema, name }: PublishedTable): string => `${quote(schema)}.${quote(name)}`;

const tableProblems = ({ role, hasPublication }: Server, table: PublishedTable): Problem[] => {
  const name = sqlName(table);
  const problems: Problem[] = [];
  const grants = readGrants(name, role);
  if (!table.mayUse) problems.push(`role ${role} may not use the schema of ${name}: ${grants.schema}`);
  if (!table.maySelect) problems.push(`role ${role} may not SELECT on ${name}: ${grants.table}`);
  if (!hasPublication && !table.isOwned)
    problems.push(
      `role ${role} does not own ${name}, and so may not publish it: have its owner make the publication and name it as publicationName`,
    );
  if (table.identity === 'n' || (table.identity === 'd' && !table.hasKey))
    problems.push(
      `table ${name} has no primary key, so that updates and deletes of it would fail: ALTER TABLE ${name} ADD PRIMARY KEY (…), or ALTER TABLE ${name} REPLICA IDENTITY FULL`,
    );
  return problems;
};

/** A batch has so many records, where the pipeline doesn't say otherwise. */
const defaultMaxRecords = 20_000;

/** What reading its rows needs besides. */
const rowProblems = ({ role }: Server, table: PublishedTable): Problem[] => {
  const { hidesRows, hasKey, identity, rows } = table;
  const problems: Problem[] = [];
  if (hidesRows)
    problems.push(`policies hide rows of ${sqlName(table)} from role ${role}: ALTER ROLE ${quote(role)} BYPASSRLS`);
  if (!hasKey && identity !== 'i' && rows > defaultMaxRecords)
    problems.push(
      `table ${sqlName(table)} has no primary key and about ${rows} rows, which can only be read in one batch: ALTER TABLE ${sqlName(table)} ADD PRIMARY KEY (…), or set snapshotMode to no_data`,
    );
  return problems;
};
