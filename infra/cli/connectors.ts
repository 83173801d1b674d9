import type { ConnectError } from '../../shared/connect/errors.ts';
import { type ConnectorState, readStates } from '../../shared/management/status.ts';
import { changeTarget, restartConnector } from '../../shared/management/tasks.ts';
import { snapshotProgress, type TableProgress } from '../../shared/sql/snapshot.ts';
import type { Verb } from '../../shared/state/states.ts';
import { type Answer, bytes, count, duration, exitCodes, tableLines } from './output.ts';
import { openPlatform } from './platform.ts';

export const status = async (stateDir: string): Promise<Answer> => {
  const platform = await openPlatform(stateDir);
  try {
    const unreadable: { name: string; error: ConnectError }[] = [];
    const states = await readStates(platform.table, Date.now(), (name, error) => unreadable.push({ name, error }));
    return {
      lines: [
        ...statusLines(states),
        ...unreadable.map(({ name, error }) => `${name}: ${error.code}: ${error.message}`),
      ],
      result: [
        ...states.map(statusResult),
        ...unreadable.map(({ name, error: { code, message } }) => ({ name, error: { code, message } })),
      ],
      exitCode: unreadable.length === 0 ? exitCodes.ok : exitCodes.failed,
    };
  } finally {
    await platform.close();
  }
};

/** Kafka Connect's shape of a status, with what it lacks beside it. */
const statusResult = ({ row, tasks, lagRecords, progress }: ConnectorState) => ({
  name: row.name,
  connector: { state: row.target === 'STARTED' ? 'RUNNING' : row.target },
  type: row.kind,
  plugin: row.plugin,
  delivery: row.delivery,
  ...(row.held === undefined ? {} : { held: row.held }),
  ...(lagRecords === undefined ? {} : { lagRecords }),
  ...snapshotOf(progress),
  tasks: tasks.map(({ task, state, row: { trace, epoch, deaths, records, bytes: written, runs, lastRunAtMs } }) => ({
    id: task,
    state,
    ...(trace === undefined ? {} : { trace }),
    epoch,
    deaths,
    records,
    bytes: written,
    runs,
    ...(lastRunAtMs === undefined ? {} : { lastRunAt: new Date(lastRunAtMs).toISOString() }),
  })),
});

const snapshotOf = ({ offsets }: ConnectorState['progress']) => {
  const tables = snapshotProgress(offsets);
  return tables.length === 0 ? {} : { snapshot: tables.map(({ sinceMs: _, ...table }) => table) };
};

export const statusLines = (states: readonly ConnectorState[]): readonly string[] => {
  const rows = states.map(({ row, tasks, lagRecords }) => [
    row.name,
    row.kind,
    [...new Set(tasks.map(({ state }) => state))].join(','),
    count(tasks.reduce((sum, { row: { records } }) => sum + records, 0)),
    bytes(tasks.reduce((sum, { row: task }) => sum + task.bytes, 0)),
    lagRecords === undefined ? '' : count(lagRecords),
    row.delivery ?? '',
  ]);
  const traces = states.flatMap(({ row, tasks }) =>
    tasks.flatMap(({ task, row: { trace } }) => (trace === undefined ? [] : [`${row.name} task ${task}: ${trace}`])),
  );
  const held = states.flatMap(({ row }) =>
    row.held === undefined
      ? []
      : [`${row.name} is held until the readers of ${row.held} have read half of its maxBacklog`],
  );
  const nowMs = Date.now();
  const snapshots = states.flatMap(({ row, progress: { offsets } }) =>
    snapshotProgress(offsets).flatMap((table) => (table.done ? [] : [`${row.name}: ${snapshotLine(table, nowMs)}`])),
  );
  return [
    ...tableLines(['connector', 'kind', 'state', 'records', 'bytes', 'lag', 'delivery'], rows),
    ...snapshots,
    ...traces,
    ...held,
  ];
};

/** The time that is left is told where enough has been read to say it. */
const snapshotLine = ({ table, rows, of, sinceMs }: TableProgress, nowMs: number): string => {
  const share = of === 0 ? 0 : rows / of;
  const leftMs = share < 0.01 ? undefined : ((nowMs - sinceMs) * (1 - share)) / share;
  const left = leftMs === undefined ? '' : `, about ${duration(leftMs)} left`;
  return `${table}: ${count(rows)} of about ${count(of)} rows that were there are read${left}`;
};

export const changeConnector = async (stateDir: string, verb: Verb | 'restart', name: string): Promise<Answer> => {
  const platform = await openPlatform(stateDir);
  try {
    if (verb === 'restart') {
      const restarted = await restartConnector(platform.table, platform.functions, name);
      return {
        lines: [`${name}: ${restarted} failed task${restarted === 1 ? '' : 's'} restarted`],
        result: { name, restarted },
      };
    }
    const row = await changeTarget(platform.table, platform.functions, name, verb);
    const later =
      row.target === 'STARTED' && !platform.running ? '; it runs with the next `sluice run` or `sluice dev`' : '';
    return { lines: [`${name}: ${row.target}${later}`], result: { name, target: row.target } };
  } finally {
    await platform.close();
  }
};
