import type { Lag, Offsets, Problem, Retained } from '../../shared/connect/connector.ts';
import type { PostgresCdcOffset, StreamOffset } from './cdc-offset.ts';
import type { Connection } from './client.ts';
import { lsnText, parseLsn } from './pgoutput.ts';
import { readSlot, type SlotNames, type SlotState } from './slot.ts';

/** How far a slot is from the end of the WAL. Nothing of it is decoded: that would turn a run away that reads it now. */
export const measureLag = async (
  connection: Connection,
  names: SlotNames,
  offsets: Offsets<PostgresCdcOffset>,
  topicPrefix: string,
): Promise<Lag> => {
  const state = await readSlot(connection, names.slot);
  if (state.slot === undefined) return {};
  const stored = offsets.get({ server: topicPrefix }) as StreamOffset | undefined;
  const at = stored === undefined ? state.slot.confirmed : parseLsn(stored.lsn);
  const bytes = Math.max(0, Number(state.end - at));
  const behindMs = bytes === 0 ? 0 : await ageOf(connection, at);
  return { bytes, ...(behindMs === undefined ? {} : { behindMs }), retained: retainedOf(state, names) };
};

/**
 * How long nothing has been written to the segment of WAL that holds a place: what follows is as old at least, to 16 MB. Undefined where the
 * role may not look; commits have no times that could be asked for.
 */
const ageOf = async (connection: Connection, at: bigint): Promise<number | undefined> => {
  const [right] = await connection.query<{ may: boolean }>(
    "SELECT has_function_privilege('pg_ls_waldir()', 'EXECUTE') AS may",
  );
  if (!right!.may) return undefined;
  const [segment] = await connection.query<{ ageMs: number }>(
    `SELECT extract(epoch FROM clock_timestamp() - modification)::float8 * 1000 AS "ageMs"
     FROM pg_ls_waldir() WHERE name = pg_walfile_name($1::pg_lsn)`,
    [lsnText(at)],
  );
  return segment === undefined ? undefined : Math.max(0, Math.round(segment.ageMs));
};

const mb = (bytes: number): string => `${Math.round(bytes / 1_048_576)} MB`;

/** What the server keeps for a slot, and how much of that it keeps at most. */
const retainedOf = ({ slot, keptAtMost }: SlotState, names: SlotNames): Retained => {
  const { retained: bytes, isLost } = slot!;
  const kept = `the server keeps ${mb(bytes)} of WAL for replication slot ${names.slot}`;
  if (isLost) return { bytes, share: 1, text: `replication slot ${names.slot} was given up by the server` };
  if (keptAtMost === undefined)
    return { bytes, text: `${kept}, and would until its disk is full (max_slot_wal_keep_size is -1)` };
  return {
    bytes,
    share: bytes / keptAtMost,
    text: `${kept}, and gives it up at ${mb(keptAtMost)}: have the connector run more often, or ALTER SYSTEM SET max_slot_wal_keep_size = '${mb(4 * keptAtMost).replace(' ', '')}'`,
  };
};

/** Hazard B16: a connector that does not run must not fill the server's disk unseen. */
export const warningsOf = (state: SlotState, names: SlotNames): readonly Problem[] => {
  if (state.keptAtMost === undefined)
    return [
      'max_slot_wal_keep_size is -1: for a connector that does not run the server keeps WAL until its disk is full, and no alarm can tell how near that is: ALTER SYSTEM SET max_slot_wal_keep_size to what the disk can spare',
    ];
  if (state.slot === undefined) return [];
  const { share = 0, text } = retainedOf(state, names);
  return share < 0.5 ? [] : [text];
};
