import { ConnectError } from '../connect/errors.ts';
import type { ConnectorSpec, ErrorPolicy } from '../connect/spec.ts';
import { configKey } from './keys.ts';
import { checkShape, shapes } from './shape.ts';
import { allows, nextTarget, type TargetState, type Verb } from './states.ts';
import type { Item, Table } from './table.ts';

export const defaultErrorPolicy: ErrorPolicy = { tolerance: 'none', retryTimeoutMs: 0, retryDelayMaxMs: 60_000 };

export interface ConnectorRow extends ConnectorSpec {
  readonly target: TargetState;
  /** Grows with every change: a run that started under an older one stops between batches. */
  readonly generation: number;
  readonly incarnation: string;
  /**
   * A new number of tasks that waits until every lease of the old set is free: two sets must never run at once, because they split
   * the partitions differently (hazard B3). While it waits no lease is taken.
   */
  readonly pendingTasks?: number;
  /** The topic whose readers are so far behind that nothing more is written to it for now (`maxBacklog`): no run begins. */
  readonly held?: string;
}

export const readConnector = async (table: Table, name: string): Promise<ConnectorRow | undefined> => {
  const item = await table.get(configKey(name));
  return item && toRow(item);
};

export const requireConnector = async (table: Table, name: string): Promise<ConnectorRow> => {
  const row = await readConnector(table, name);
  if (row === undefined)
    throw new ConnectError('NOT_FOUND', `there is no connector ${name}: see \`sluice status\` for those there are`);
  return row;
};

const toRow = (item: Item): ConnectorRow => {
  checkShape('connector', item.v, `${item.pk} ${item.sk}`);
  return {
    ...(JSON.parse(String(item.spec)) as ConnectorSpec),
    target: item.target as TargetState,
    generation: Number(item.generation),
    incarnation: String(item.incarnation),
    ...(item.pendingTasks === undefined ? {} : { pendingTasks: Number(item.pendingTasks) }),
    ...(item.held === undefined ? {} : { held: String(item.held) }),
  };
};

const toItem = ({ target, generation, incarnation, pendingTasks, held, ...spec }: ConnectorRow): Item => ({
  ...configKey(spec.name),
  kind: 'connector',
  name: spec.name,
  v: shapes.connector,
  spec: JSON.stringify(spec),
  target,
  generation,
  incarnation,
  ...(pendingTasks === undefined ? {} : { pendingTasks }),
  ...(held === undefined ? {} : { held }),
});

/** What a connector was declared as; a number of tasks that waits counts. */
export const specOf = ({
  target,
  generation,
  incarnation,
  pendingTasks,
  held,
  ...spec
}: ConnectorRow): ConnectorSpec => ({
  ...spec,
  tasks: pendingTasks ?? spec.tasks,
});

/** Replaces the row where its generation is still the one that was read, else asks again with what is there now. */
const change = async (
  table: Table,
  name: string,
  next: (before: ConnectorRow | undefined) => ConnectorRow | undefined,
): Promise<ConnectorRow | undefined> => {
  for (;;) {
    const before = await readConnector(table, name);
    const after = next(before);
    if (after === undefined || after === before) return before;
    const when = before === undefined ? ('absent' as const) : { generation: before.generation };
    const result = await table.write([{ put: toItem(after), when }]);
    if (result.ok) return after;
  }
};

/**
 * Creates a connector, or updates its spec. A new number of tasks becomes pending. `incarnation` is for a new row only: an existing
 * connector keeps its own, and so its offsets.
 */
export const putConnector = async (
  table: Table,
  spec: ConnectorSpec,
  fresh: { readonly incarnation: string; readonly target?: TargetState },
): Promise<ConnectorRow> => {
  const row = await change(table, spec.name, (before) => {
    if (before === undefined)
      return { ...spec, target: fresh.target ?? 'STARTED', generation: 1, incarnation: fresh.incarnation };
    if (before.kind !== spec.kind)
      throw new ConnectError(
        'STATE_CONFLICT',
        `connector ${spec.name} is a ${before.kind}, it can't become a ${spec.kind}: give the new one another name`,
      );
    const { pendingTasks, ...kept } = before;
    const pending = spec.tasks === before.tasks ? {} : { pendingTasks: spec.tasks };
    return { ...kept, ...spec, tasks: before.tasks, ...pending, generation: before.generation + 1 };
  });
  return row!;
};

/** Pauses, resumes or stops; a run in progress ends after the batch it is writing. */
export const setTarget = async (table: Table, name: string, verb: Verb): Promise<ConnectorRow> => {
  const row = await change(table, name, (before) => {
    if (before === undefined) return undefined;
    const target = nextTarget[before.target][verb];
    return target === before.target ? before : { ...before, target, generation: before.generation + 1 };
  });
  if (row === undefined)
    throw new ConnectError('NOT_FOUND', `there is no connector ${name}: see \`sluice status\` for those there are`);
  return row;
};

/** Has the runs in progress of a started connector end after the batch that they write; each wakes the next one. */
export const endRuns = async (table: Table, name: string): Promise<void> => {
  await change(table, name, (before) =>
    before?.target === 'STARTED' ? { ...before, generation: before.generation + 1 } : before,
  );
};

/** Holds a connector that writes to `topic`, or lets it go on; a run in progress ends after the batch it is writing. */
export const setHeld = async (
  table: Table,
  name: string,
  topic: string | undefined,
): Promise<ConnectorRow | undefined> =>
  change(table, name, (before) => {
    if (before === undefined || before.held === topic) return before;
    const { held: _, ...row } = before;
    return { ...row, ...(topic === undefined ? {} : { held: topic }), generation: before.generation + 1 };
  });

/** Makes the pending task set the current one. Only when every lease of the old set is free: the caller has looked since it became pending. */
export const flipTasks = async (table: Table, name: string, pendingTasks: number): Promise<void> => {
  await change(table, name, (before) => {
    if (before?.pendingTasks !== pendingTasks) return undefined;
    const { pendingTasks: _, ...row } = before;
    return { ...row, tasks: pendingTasks, generation: before.generation + 1 };
  });
};

export const deleteConnector = async (table: Table, name: string): Promise<void> => {
  await table.write([{ delete: configKey(name) }]);
};

/** Whether a run that started under `row` may go on: the connector is started, not held, unchanged, and this task is in its current set. */
export const isCurrent = (row: ConnectorRow, now: ConnectorRow | undefined, taskId: number): boolean =>
  now !== undefined &&
  allows[now.target].run &&
  now.incarnation === row.incarnation &&
  now.generation === row.generation &&
  now.pendingTasks === undefined &&
  now.held === undefined &&
  taskId < now.tasks;
