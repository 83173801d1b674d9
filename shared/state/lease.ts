import { taskKey, taskPrefix } from './keys.ts';
import { checkShape, shapes } from './shape.ts';
import type { Item, Table } from './table.ts';

/**
 * A task's row: its lease, its state and its totals, written together and never alone, so that an idle poll writes nothing.
 *
 *   free ──acquire──► held ──release──► free           epoch grows at each acquire, and is never reset
 *                      │ function killed
 *                      ▼
 *                    expired ──acquire (deaths + 1)──► held
 */
export interface TaskRow {
  readonly task: number;
  readonly epoch: number;
  /** Set while the lease is held: the invocation's request id. */
  readonly owner?: string;
  /** The holder's own deadline, plus the longest request of its sink, plus clock skew (invariant 4). */
  readonly expiresAtMs?: number;
  /** Takeovers of a lease that was not released, since the last run that ended well. */
  readonly deaths: number;
  readonly state: 'RUNNING' | 'FAILED';
  /** Why it failed: the code and the message, never a stack. */
  readonly trace?: string;
  /** Whether the coordinator may restart it by itself. */
  readonly retriable?: boolean;
  /** How often it has failed in a row; the coordinator's restart backoff. */
  readonly failures: number;
  /** `at` or `after` a position, when one record at a time is tried: what a poison record's offset is read from. */
  readonly suspect?: string;
  readonly lastRunAtMs?: number;
  /** When a run last committed something; what moved without a record is not left uncommitted for long after it. */
  readonly lastCommitAtMs?: number;
  /** The last run left work, and was to wake its successor after this. */
  readonly more?: true;
  readonly records: number;
  readonly bytes: number;
  readonly runs: number;
}

export const newTaskRow = (task: number): TaskRow => ({
  task,
  epoch: 0,
  deaths: 0,
  state: 'RUNNING',
  failures: 0,
  records: 0,
  bytes: 0,
  runs: 0,
});

export const toTaskRow = (item: Item): TaskRow => {
  checkShape('task', item.v, `${item.pk} ${item.sk}`);
  const { pk, sk, v, expires, ...row } = item;
  return row as unknown as TaskRow;
};

export const readTask = async (table: Table, connector: string, task: number): Promise<TaskRow> => {
  const item = await table.get(taskKey(connector, task));
  return item === undefined ? newTaskRow(task) : toTaskRow(item);
};

export const isHeld = (row: TaskRow, nowMs: number): boolean =>
  row.owner !== undefined && (row.expiresAtMs ?? 0) > nowMs;

/** Replaces the row where nobody else did since it was read. */
const replace = async (table: Table, connector: string, before: TaskRow, after: TaskRow): Promise<boolean> => {
  const key = taskKey(connector, before.task);
  const put = Object.fromEntries(
    Object.entries({ ...key, v: shapes.task, ...after }).filter(([, value]) => value !== undefined),
  );
  const same = { epoch: before.epoch, owner: before.owner, state: before.state, failures: before.failures };
  const result = await table.write([{ put: put as Item, when: before.epoch === 0 ? 'absent' : same }]);
  if (result.ok) return true;
  // A lost answer: what is there is what we wrote. Within an epoch only its holder writes; a take-over and a restart start another.
  const { found } = result.failed[0]!;
  return found !== undefined && found.epoch === after.epoch && found.owner === after.owner;
};

export interface LeaseRequest {
  readonly connector: string;
  readonly task: number;
  readonly owner: string;
  readonly expiresAtMs: number;
  readonly nowMs: number;
}

/** `busy`: another invocation holds it. `failed`: the task waits for a restart. */
export type Acquired = { readonly lease: TaskRow } | { readonly refused: 'busy' | 'failed' };

/** Takes the lease. The row's `deaths` counts a takeover from a holder that died. */
export const acquireLease = async (table: Table, request: LeaseRequest): Promise<Acquired> => {
  const before = await readTask(table, request.connector, request.task);
  if (isHeld(before, request.nowMs)) return { refused: 'busy' };
  if (before.state === 'FAILED') return { refused: 'failed' };
  const { suspect, ...rest } = before;
  const after: TaskRow = {
    ...rest,
    ...(before.owner !== undefined && suspect !== undefined ? { suspect } : {}),
    epoch: before.epoch + 1,
    owner: request.owner,
    expiresAtMs: request.expiresAtMs,
    deaths: before.owner === undefined ? before.deaths : before.deaths + 1,
  };
  return (await replace(table, request.connector, before, after)) ? { lease: after } : { refused: 'busy' };
};

/** Writes into a row whose lease this run holds: the release, a failure, or the suspect. False where the lease was taken over. */
export const updateHeld = (
  table: Table,
  connector: string,
  held: TaskRow,
  change: Partial<TaskRow>,
): Promise<boolean> => replace(table, connector, held, { ...held, ...change });

/** An operator's or the coordinator's restart of a failed task. False where it is not failed any more. */
export const restartTask = async (
  table: Table,
  connector: string,
  task: number,
  resetFailures: boolean,
): Promise<boolean> => {
  const before = await readTask(table, connector, task);
  if (before.state !== 'FAILED' || before.owner !== undefined) return false;
  const { trace, suspect, retriable, ...rest } = before;
  const after: TaskRow = {
    ...rest,
    epoch: before.epoch + 1,
    state: 'RUNNING',
    deaths: 0,
    failures: resetFailures ? 0 : before.failures,
  };
  return replace(table, connector, before, after);
};

/**
 * Ends the lease of an invocation that is known to be dead sooner, so that nobody waits for its expiry (hazard B9). `expiresAtMs`: when
 * nothing that it sent can be on its way any more.
 */
export const clearDeadLease = async (
  table: Table,
  connector: string,
  task: number,
  owner: string,
  expiresAtMs: number,
): Promise<void> => {
  const row = await readTask(table, connector, task);
  if (row.owner === owner && expiresAtMs < (row.expiresAtMs ?? 0))
    await replace(table, connector, row, { ...row, expiresAtMs });
};

/**
 * Of a connector that is removed while a run of it may still write: the lease stays until it expires, so that a new connector of the
 * name waits, and as nobody's, so that what is left of the old one can't release it or fail its task (hazard B4). True where it stays.
 */
export const abandonLease = async (table: Table, item: Item, nowMs: number): Promise<boolean> => {
  const { pk, sk, owner, epoch, expiresAtMs } = item;
  if (!sk.startsWith(taskPrefix) || owner === undefined || !(Number(expiresAtMs) > nowMs)) return false;
  const row = { ...newTaskRow(Number(sk.slice(taskPrefix.length))), epoch: Number(epoch), owner: 'removed' };
  // Retention removes it where no new connector comes.
  const expires = Math.ceil(Number(expiresAtMs) / 1000) + 86_400;
  const put = { pk, sk, v: shapes.task, ...row, expiresAtMs: Number(expiresAtMs), expires };
  return (await table.write([{ put, when: { epoch: epoch!, owner } }])).ok;
};
