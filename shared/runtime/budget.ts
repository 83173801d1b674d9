import type { StoredOffset } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import { canonicalJson } from '../connect/json.ts';
import type { Value } from '../connect/schema.ts';
import type { TaskRow } from '../state/lease.ts';
import type { RunBudget } from './run.ts';

/** A task that dies this often, and at last on a single record, is poisoned. */
const poisonDeaths = 5;

/**
 * The batch is halved by each death (invariant 4), so that a batch that kills its function by size or time gets through in parts.
 * `poison`: the last attempt was with one record.
 */
export const budgetAfterDeaths = ({ maxRecords, maxBytes }: RunBudget, deaths: number): RunBudget | 'poison' => {
  const halved = (limit: number, times: number) => Math.max(1, Math.floor(limit / 2 ** times));
  if (deaths > poisonDeaths && halved(maxRecords, deaths - 1) === 1) return 'poison';
  return { maxRecords: halved(maxRecords, deaths), maxBytes: halved(maxBytes, deaths) };
};

export const placeOf = (partition: string, offset: unknown): string => `${partition} ${canonicalJson(offset as Value)}`;

/** Never skipped by itself: an operator reads the offset here and decides (invariant 8). */
export const poisonError = ({ deaths, suspect }: TaskRow, committed: readonly StoredOffset[]): ConnectError => {
  const where =
    suspect ?? `after ${committed.map(({ key, offset }) => placeOf(key, offset)).join(', ') || 'the beginning'}`;
  return new ConnectError(
    'POISON',
    `the record ${where} killed its function ${deaths} times; give the function more memory or time and restart, or skip it with \`sluice offsets set\``,
  );
};
