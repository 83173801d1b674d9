import type { Lag } from '../../shared/connect/connector.ts';
import type { ConnectError } from '../../shared/connect/errors.ts';
import { readerLag, segmentOf } from '../../shared/management/lag.ts';
import { type ConnectorState, readStates } from '../../shared/management/status.ts';
import { changeTarget, restartConnector } from '../../shared/management/tasks.ts';
import { snapshotProgress, type TableProgress } from '../../shared/sql/snapshot.ts';
import type { MeasuredLag } from '../../shared/state/lag.ts';
import type { Verb } from '../../shared/state/states.ts';
import type { Table } from '../../shared/state/table.ts';
import { type Answer, bytes, count, duration, exitCodes, tableLines } from './output.ts';
import { openPlatform, type Place } from './platform.ts';

export const status = async (place: Place): Promise<Answer> => {
  const platform = await openPlatform(place);
  try {
    const unreadable: { name: string; error: ConnectError }[] = [];
    const nowMs = Date.now();
    const states = await readStates(platform.table, nowMs, (name, error) => unreadable.push({ name, error }));
    const lags = new Map<string, MeasuredLag>();
    for (const state of states) {
      const measured = await lagOf(platform.table, state, nowMs);
      if (measured !== undefined) lags.set(state.row.name, measured);
    }
    return {
      lines: [
        ...statusLines(states, lags),
        ...unreadable.map(({ name, error }) => `${name}: ${error.code}: ${error.message}`),
      ],
      result: [
        ...states.map((state) => statusResult(state, lags.get(state.row.name))),
        ...unreadable.map(({ name, error: { code, message } }) => ({ name, error: { code, message } })),
      ],
      exitCode: unreadable.length === 0 ? exitCodes.ok : exitCodes.failed,
    };
  } finally {
    await platform.close();
  }
};

/** Of a reader it is measured now; of a source it is what it said last. */
const lagOf = async (
  table: Table,
  { lanes, progress }: ConnectorState,
  nowMs: number,
): Promise<MeasuredLag | undefined> =>
  lanes === undefined ? progress.lag : { atMs: nowMs, lag: await readerLag(segmentOf(table), lanes, nowMs) };

const lagResult = (measured: MeasuredLag | undefined) =>
  measured === undefined
    ? {}
    : {
        lag: {
          ...measured.lag,
          ...(measured.error === undefined ? {} : { error: measured.error }),
          measuredAt: new Date(measured.atMs).toISOString(),
        },
      };

/** What there is of it, as in `1,234 records, 5.6 MB, 3 min`; 0 where there is nothing. */
const lagText = (lag: Lag | undefined): string => {
  if (lag === undefined) return '';
  const { records = 0, bytes: size = 0, behindMs = 0 } = lag;
  const parts = [
    ...(records > 0 ? [`${count(records)} records`] : []),
    ...(size > 0 ? [bytes(size)] : []),
    ...(behindMs > 0 ? [duration(behindMs)] : []),
  ];
  return parts.length === 0 ? '0' : parts.join(', ');
};

/** Kafka Connect's shape of a status, with what it lacks beside it. */
const statusResult = ({ row, tasks, lagRecords, progress }: ConnectorState, measured: MeasuredLag | undefined) => ({
  name: row.name,
  connector: { state: row.target === 'STARTED' ? 'RUNNING' : row.target },
  type: row.kind,
  plugin: row.plugin,
  delivery: row.delivery,
  ...(row.held === undefined ? {} : { held: row.held }),
  ...(lagRecords === undefined ? {} : { lagRecords }),
  ...lagResult(measured),
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

export const statusLines = (
  states: readonly ConnectorState[],
  lags: ReadonlyMap<string, MeasuredLag> = new Map(),
): readonly string[] => {
  const rows = states.map(({ row, tasks, lagRecords }) => [
    row.name,
    row.kind,
    [...new Set(tasks.map(({ state }) => state))].join(','),
    count(tasks.reduce((sum, { row: { records } }) => sum + records, 0)),
    bytes(tasks.reduce((sum, { row: task }) => sum + task.bytes, 0)),
    lagText(lags.get(row.name)?.lag ?? (lagRecords === undefined ? undefined : { records: lagRecords })),
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
    ...[...lags].flatMap(([name, measured]) => lagLines(name, measured, nowMs)),
    ...traces,
    ...held,
  ];
};

/** What is kept for a source, and when it was asked: nothing of what was measured now. */
const lagLines = (name: string, { atMs, lag, error }: MeasuredLag, nowMs: number): readonly string[] => {
  const since = `as of ${duration(nowMs - atMs)} ago`;
  if (error !== undefined) return [`${name}: lag could not be measured, ${since}: ${error}`];
  const { retained } = lag;
  if (retained === undefined) return [];
  const share =
    retained.share === undefined ? '' : `${Math.round(retained.share * 100)}% of what its upstream keeps is used: `;
  return [`${name}: ${share}${retained.text} (${since})`];
};

/** The time that is left is told where enough has been read to say it. */
const snapshotLine = ({ table, rows, of, sinceMs }: TableProgress, nowMs: number): string => {
  const share = of === 0 ? 0 : rows / of;
  const leftMs = share < 0.01 ? undefined : ((nowMs - sinceMs) * (1 - share)) / share;
  const left = leftMs === undefined ? '' : `, about ${duration(leftMs)} left`;
  return `${table}: ${count(rows)} of about ${count(of)} rows that were there are read${left}`;
};

export const changeConnector = async (place: Place, verb: Verb | 'restart', name: string): Promise<Answer> => {
  const platform = await openPlatform(place);
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
