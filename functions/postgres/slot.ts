import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Identity } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { PostgresCdcConfig } from './cdc-config.ts';
import type { StreamOffset } from './cdc-offset.ts';
import { type Connection, literal } from './client.ts';
import { lsnText, parseLsn } from './pgoutput.ts';

/** The slot and the publication of a connector: a name may be longer, or have other letters, than a slot's. */
export interface SlotNames {
  readonly slot: string;
  readonly publication: string;
}

export const slotNames = (config: PostgresCdcConfig, { deployment, connector }: Identity): SlotNames => {
  const slot = config.slotName ?? slotNameOf(`${deployment}_${connector}`);
  return { slot, publication: config.publicationName ?? slot };
};

const slotNameOf = (name: string): string => {
  const plain = `sluice_${name.toLowerCase().replace(/[^a-z0-9_]/g, '_')}`;
  if (plain === `sluice_${name}` && plain.length <= 63) return plain;
  const hash = createHash('sha256').update(name).digest('hex').slice(0, 8);
  return `${plain.slice(0, 54)}_${hash}`;
};

/** A slot, and the server it is on, at one moment. */
export interface SlotState {
  /** pg_control_system().system_identifier. */
  readonly system: string;
  readonly timeline: number;
  readonly version: string;
  readonly database: string;
  /** What the server has written durably: decoding goes so far. */
  readonly end: bigint;
  /** Bytes of WAL that the server keeps for a slot at most, where max_slot_wal_keep_size says so. */
  readonly keptAtMost?: number;
  readonly slot?: {
    readonly confirmed: bigint;
    /** Bytes of WAL that the server keeps for it. */
    readonly retained: number;
    readonly plugin: string;
    readonly database: string;
    /** pg_replication_slots.wal_status is lost: what it needs is gone. */
    readonly isLost: boolean;
    /** A standby keeps a copy of it (PostgreSQL 17). */
    readonly isFailover: boolean;
  };
}

/** What the server has written durably. */
export const flushedTo = async (connection: Connection): Promise<bigint> => {
  const [row] = await connection.query<{ end: string }>('SELECT pg_current_wal_flush_lsn()::text AS "end"');
  return parseLsn(row!.end);
};

const stateQuery = `SELECT c.system_identifier::text AS system, current_database() AS database,
  ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int AS timeline,
  current_setting('server_version') AS version, pg_current_wal_flush_lsn()::text AS "end",
  (SELECT setting::float8 * 1048576 FROM pg_settings WHERE name = 'max_slot_wal_keep_size' AND setting::int >= 0) AS "keptAtMost",
  s.confirmed_flush_lsn::text AS confirmed, pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn)::float8 AS retained,
  s.plugin, s.database AS "slotDatabase", s.wal_status = 'lost' AS "isLost",
  to_jsonb(s)->>'failover' = 'true' AS "isFailover", s.slot_name AS slot
  FROM pg_control_system() c LEFT JOIN pg_replication_slots s ON s.slot_name = $1`;

interface StateRow {
  readonly system: string;
  readonly database: string;
  readonly timeline: number;
  readonly version: string;
  readonly end: string;
  readonly keptAtMost: number | null;
  readonly slot: string | null;
  readonly confirmed: string | null;
  readonly retained: number | null;
  readonly plugin: string;
  readonly slotDatabase: string;
  readonly isLost: boolean | null;
  readonly isFailover: boolean | null;
}

export const readSlot = async (connection: Connection, name: string): Promise<SlotState> => {
  const [row] = await connection.query<StateRow>(stateQuery, [name]);
  const { system, database, timeline, version, slot, confirmed, plugin, keptAtMost } = row!;
  const state = {
    ...{ system, database, timeline, version, end: parseLsn(row!.end) },
    ...(keptAtMost === null ? {} : { keptAtMost }),
  };
  if (slot === null) return state;
  return {
    ...state,
    slot: {
      confirmed: confirmed === null ? 0n : parseLsn(confirmed),
      retained: row!.retained ?? 0,
      plugin,
      database: row!.slotDatabase,
      isLost: row!.isLost === true,
      isFailover: row!.isFailover === true,
    },
  };
};

/** For so long a slot is waited for. */
const activeMs = 5000;

/**
 * Does it again while another session decodes the slot: a run that only looks does, and one that was cut goes on until it has something to
 * send. Whoever keeps the slot for longer is told by the server's refusal.
 */
export const whenFree = async <T>(work: () => Promise<T>): Promise<T> => {
  const untilMs = performance.now() + activeMs;
  for (let waitMs = 5; ; waitMs = Math.min(waitMs * 2, 100))
    try {
      return await work();
    } catch (error) {
      const isActive = ((error as Error).cause as { code?: string } | undefined)?.code === '55006';
      if (!isActive || performance.now() > untilMs) throw error;
      await delay(waitMs);
    }
};

/** Invariant 7: what is offered where a position is gone. */
const choices =
  'Reset the offsets of this connector to go on from where the slot is, and read the tables anew if nothing of it may be missing';

export const lost = (what: string): ConnectError => new ConnectError('LOST_POSITION', `${what}. ${choices}.`);

/** Throws where the slot does not give every change behind `stored`; without one it is where the slot is that reading begins. */
export const requirePosition = (
  state: SlotState,
  { slot: name }: SlotNames,
  stored: StreamOffset | undefined,
): NonNullable<SlotState['slot']> => {
  const { slot, system, timeline, database, end } = state;
  if (stored !== undefined && stored.system !== system)
    throw lost(
      `the offset belongs to the server with system identifier ${stored.system}, this one is ${system}: set the address of that server`,
    );
  if (stored !== undefined && stored.slot !== name)
    throw lost(`the offset belongs to slot ${stored.slot}, the config names ${name}: set slotName: ${stored.slot}`);
  if (slot === undefined) {
    if (stored !== undefined) throw lost(`replication slot ${name} was dropped, and with it the changes since then`);
    throw new ConnectError(
      'NOT_FOUND',
      `there is no replication slot ${name}: deploy the connector again, or SELECT pg_create_logical_replication_slot('${name}', 'pgoutput')`,
    );
  }
  if (slot.plugin !== 'pgoutput' || slot.database !== database)
    throw new ConnectError(
      'CONFIG_INVALID',
      `replication slot ${name} is of plugin ${slot.plugin} and database ${slot.database}, needed is pgoutput and ${database}: set another slotName`,
    );
  if (slot.isLost)
    throw lost(
      `replication slot ${name} was given up by the server: it kept more WAL than max_slot_wal_keep_size allows. SELECT pg_drop_replication_slot('${name}')`,
    );
  if (stored === undefined) return slot;
  if (stored.timeline !== timeline && !slot.isFailover)
    throw lost(
      `the server went from timeline ${stored.timeline} to ${timeline} (a failover or a restore), and slot ${name} is none that standbys keep: what it has may be another history`,
    );
  // Hazard B7: a slot never goes back. Beyond the stored position it is somebody else who took changes of it, or the offset was set back.
  if (slot.confirmed > parseLsn(stored.lsn))
    throw lost(
      `the offset is at ${stored.lsn}, replication slot ${name} has let go everything before ${lsnText(slot.confirmed)}`,
    );
  if (parseLsn(stored.lsn) > end)
    throw lost(`the offset is at ${stored.lsn}, the server has written no more than ${lsnText(end)}: it was set back`);
  return slot;
};

/**
 * Tells the server what is durable downstream (invariant 2): it may let go of WAL. A slot that is there or further already is left as it
 * is; the next reading sees whether that is right.
 */
export const advanceSlot = async (connection: Connection, name: string, lsn: bigint): Promise<void> => {
  await connection.query(
    `SELECT pg_replication_slot_advance(slot_name, $2::pg_lsn) FROM pg_replication_slots
     WHERE slot_name = $1 AND confirmed_flush_lsn < $2::pg_lsn AND wal_status IS DISTINCT FROM 'lost'`,
    [name, lsnText(lsn)],
  );
};

/** The COPY of the changes that transactions made which commit behind the slot, none of those that begin behind `to`. */
export const peekStatement = ({ slot, publication }: SlotNames, to: bigint, maxChanges: number): string =>
  `COPY (SELECT lsn, data FROM pg_logical_slot_peek_binary_changes(${literal(slot)}, '${lsnText(to)}', ${maxChanges},
    'proto_version', '1', 'publication_names', ${literal(quoted(publication))})) TO STDOUT (FORMAT binary)`;

/** pgoutput takes a list of identifiers. */
const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`;

/** Whether there is any change of a row behind the slot. Transactions that have none (PostgreSQL 14) are told from those that do. */
export const hasChanges = async (
  connection: Connection,
  { slot, publication }: SlotNames,
  to: bigint,
): Promise<boolean> => {
  const maxChanges = 1000;
  const [row] = await connection.query<{ found: boolean }>(
    `SELECT count(*) >= ${maxChanges} OR coalesce(bool_or(get_byte(data, 0) IN (${[...'IUDT'].map((kind) => kind.charCodeAt(0))})), false) AS found
     FROM pg_logical_slot_peek_binary_changes($1, $2, ${maxChanges}, 'proto_version', '1', 'publication_names', $3)`,
    [slot, lsnText(to), quoted(publication)],
  );
  return row!.found;
};
