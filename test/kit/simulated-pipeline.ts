import { expect } from 'vitest';
import type { Partition, SinkTask, SourceTask } from '../../shared/connect/connector.ts';
import { memoryObjects } from '../../shared/log/objects.ts';
import { logSource } from '../../shared/log/read.ts';
import { applyConnector } from '../../shared/management/apply.ts';
import { readState } from '../../shared/management/status.ts';
import { isHeld } from '../../shared/state/lease.ts';
import { memoryTable } from '../../shared/state/memory/table.ts';
import { loadProgress } from '../../shared/state/offsets.ts';
import type { Key } from '../../shared/state/table.ts';
import type { Process } from './faults.ts';
import {
  arraySource,
  askedSource,
  keyedDestination,
  owningDestination,
  type Row,
  rowOf,
  stagedDestination,
} from './memory-connectors.ts';
import { createPlatform, recordedFunctions, specOf } from './platform.ts';
import { watchedTable } from './watched-table.ts';
import { manualClock } from './world.ts';

export const destinations = ['owning', 'keyed', 'staged'] as const;
export type Destination = (typeof destinations)[number];

export interface PipelineShape {
  readonly partitions: number;
  readonly queues: number;
  readonly sourceTasks: number;
  /** Whether the sources can say if there is more, or must be polled. */
  readonly asked: boolean;
  /** A direct sink reads the upstream itself; the others read the log that the source fills. */
  readonly sinks: readonly { readonly destination: Destination; readonly direct: boolean; readonly tasks: number }[];
  readonly retryTimeoutMs: number;
}

/**
 * source → log → sinks, and direct connectors beside them, on one table in memory. What the rules forbid is told to `onWrong` when it
 * happens; what must be true in the end is asked of `isAtRest` and `check`.
 */
export const createPipeline = async (
  shape: PipelineShape,
  onChange: (key: Key) => void,
  onWrong: (error: unknown) => void,
) => {
  const clock = manualClock();
  const table = watchedTable(memoryTable(), onChange, onWrong);
  const objects = memoryObjects();
  const platform = createPlatform({ table, objects, clock });
  const upstream = new Map<string, Row[]>(Array.from({ length: shape.partitions }, (_, p) => [`p${p}`, []]));
  const specs = new Map(specsOf(shape).map((spec) => [spec.name, spec]));
  for (const spec of specs.values()) await applyConnector(table, recordedFunctions().functions, spec);
  const names = [...specs.keys()];

  const inState = async (connector: string): Promise<readonly Place[]> => {
    const { row } = (await readState(table, connector, clock.now()))!;
    return (await loadProgress(table, { connector, incarnation: row.incarnation })).offsets;
  };

  /** The upstream's partitions of one task. It is told only of what is durable (invariant 2). */
  const sourceOf = (connector: string, stored: () => Promise<readonly Place[]>) => (task: number, tasks: number) => {
    const mine = new Map([...upstream].filter((_, p) => p % tasks === task));
    const told = arraySource(mine, 'rows', async (partition, next) => {
      if (placeIn(await stored(), partition) < next)
        onWrong(new Error(`${connector} acknowledged ${partition} ${next} before it was durable`));
    });
    const source = shape.asked ? askedSource(mine, 'rows') : told;
    return { ...source, commit: told.commit! } as SourceTask<never>;
  };

  const readSource = sourceOf('source', () => inState('source'));
  platform.plugins.set('source', { source: (row, task) => readSource(task, row.tasks) });
  const targets = shape.sinks.map(({ destination, direct }, i) => {
    const name = `sink-${i}`;
    const target = makeTarget(destination);
    const readDirect = sourceOf(name, target.stored ?? (() => inState(name)));
    platform.plugins.set(name, {
      ...(direct ? { source: (row, task) => readDirect(task, row.tasks) } : {}),
      sink: (_row, _task, process) => target.sink(process),
    });
    return { name, destination, check: target.check };
  });

  const isDone = async (name: string): Promise<boolean> => {
    const { row, tasks, unfinished, lagRecords = 0 } = (await readState(table, name, clock.now()))!;
    if (lagRecords > 0 || unfinished || row.pendingTasks !== undefined) return false;
    if (tasks.some((task) => isHeld(task.row, clock.now()) || task.row.state === 'FAILED')) return false;
    if (row.from !== undefined) return true;
    const places = await inState(name);
    return [...upstream].every(([partition, rows]) => placeIn(places, partition) === rows.length);
  };

  const readLog = async (): Promise<readonly Row[]> => {
    const source = logSource({ table, objects, topics: ['rows'], task: 0, tasks: 1, now: clock.now });
    const everything = { maxRecords: 1_000_000, maxBytes: 1 << 30, signal: new AbortController().signal };
    const { batch } = await source.poll({ get: () => undefined, all: () => [] }, everything);
    return [...batch].map(rowOf);
  };

  return {
    ...platform,
    specs,
    names,
    targets,
    upstream,
    async isAtRest() {
      for (const name of names) if (!(await isDone(name))) return false;
      return true;
    },
    /** Nothing lost, nothing doubled, each key in order. */
    async check() {
      const expected = [...upstream.values()].flat();
      expect(byKey(await readLog()), 'the log').toEqual(byKey(expected));
      for (const { name, check } of targets) check(name, byKey(expected));
    },
    describe: async () =>
      JSON.stringify(await Promise.all(names.map((name) => readState(table, name, clock.now()))), null, 1),
  };
};

type Place = { readonly partition: Partition; readonly offset: unknown };

const placeIn = (places: readonly Place[], name: string): number =>
  (places.find(({ partition }) => partition.name === name)?.offset as { next: number } | undefined)?.next ?? 0;

const specsOf = ({ queues, sourceTasks, sinks, retryTimeoutMs }: PipelineShape) => {
  const errors = { tolerance: 'none', retryTimeoutMs, retryDelayMaxMs: 1_000 } as const;
  const common = { maxRecords: 3, errors };
  const topic = { name: 'rows', queues, retentionMs: 3_600_000 };
  return [
    specOf({ ...common, name: 'source', kind: 'source', to: [topic], tasks: sourceTasks }),
    ...sinks.map(({ direct, tasks }, i) =>
      specOf({
        ...common,
        name: `sink-${i}`,
        tasks,
        ...(direct ? { kind: 'direct' } : { kind: 'sink', from: ['rows'] }),
      }),
    ),
  ];
};

type Keys = Readonly<Record<string, readonly number[]>>;

const byKey = (rows: readonly Row[]): Keys =>
  Object.fromEntries(
    Object.entries(Object.groupBy(rows, ({ key }) => key)).map(([key, all]) => [key, all!.map(({ n }) => n)]),
  );

interface Target {
  sink(process: Process): SinkTask;
  /** Present where the destination owns its offsets. */
  stored?(): Promise<readonly Place[]>;
  check(name: string, expected: Keys): void;
}

const makeTarget = (destination: Destination): Target => {
  switch (destination) {
    case 'owning': {
      const { rows, sink } = owningDestination();
      const check: Target['check'] = (name, expected) => expect(byKey(rows), name).toEqual(expected);
      return { sink, stored: () => sink().offsets!(), check };
    }
    case 'staged': {
      const { rows, sink } = stagedDestination();
      return { sink, check: (name, expected) => expect(byKey(rows()), name).toEqual(expected) };
    }
    case 'keyed': {
      const { last, sink } = keyedDestination();
      const lastOf = (keys: Keys) => Object.fromEntries(Object.entries(keys).map(([key, ns]) => [key, ns.at(-1)]));
      return { sink, check: (name, expected) => expect(Object.fromEntries(last), name).toEqual(lastOf(expected)) };
    }
  }
};
