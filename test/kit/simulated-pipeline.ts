import { expect } from 'vitest';
import { partitionKey, type SourceTask } from '../../shared/connect/connector.ts';
import type { ConnectorSpec } from '../../shared/connect/spec.ts';
import { memoryObjects } from '../../shared/log/objects.ts';
import { type LogOffset, logSource } from '../../shared/log/read.ts';
import { applyConnector } from '../../shared/management/apply.ts';
import { readState } from '../../shared/management/status.ts';
import { isHeld } from '../../shared/state/lease.ts';
import { memoryTable } from '../../shared/state/memory/table.ts';
import { loadProgress } from '../../shared/state/offsets.ts';
import type { Item, Key } from '../../shared/state/table.ts';
import { removeEnded } from './erratic-retention.ts';
import { arraySource, askedSource, type Row, rowOf } from './memory-connectors.ts';
import { createPlatform, recordedFunctions, specOf } from './platform.ts';
import { type Allowed, byKey, type Destination, makeTarget, type Place, type Target } from './simulated-targets.ts';
import { watchedTable } from './watched-table.ts';
import { manualClock } from './world.ts';

export interface PipelineShape {
  /** Of each source. */
  readonly partitions: number;
  readonly queues: number;
  readonly sourceTasks: number;
  /** Whether the sources can say if there is more. */
  readonly asked: boolean;
  /** A second source, into a topic of its own. */
  readonly second: boolean;
  /** rows → derived. */
  readonly processor: boolean;
  /** Sources are held when their readers are behind by some batches. */
  readonly limited: boolean;
  readonly sinks: readonly {
    readonly destination: Destination;
    /** A topic, both sources' topics into one sink, or the upstream itself. */
    readonly from: 'rows' | 'derived' | 'merged' | 'direct';
    readonly tasks: number;
  }[];
  readonly retryTimeoutMs: number;
}

const retentionMs = 600_000;
/** What ends sooner than this is kept by a sweep. */
const soonMs = 300_000;
/** What ends sooner than this is not promised to who begins now. */
const marginMs = 120_000;

/**
 * sources → log → processor, sinks, and direct connectors beside them, on one table in memory. What the rules forbid is told to
 * `onWrong` when it happens; what must be true in the end is asked of `isAtRest` and `check`.
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
  const rowsOf = (letter: string) =>
    new Map<string, Row[]>(Array.from({ length: shape.partitions }, (_, p) => [`${letter}${p}`, []]));
  const upstreams = new Map([['source', rowsOf('p')], ...(shape.second ? [['second', rowsOf('q')] as const] : [])]);
  const specs = new Map(specsOf(shape).map((spec) => [spec.name, spec]));
  const apply = (spec: ConnectorSpec) =>
    applyConnector(table, recordedFunctions().functions, spec, { nowMs: clock.now() });

  const inState = async (connector: string): Promise<readonly Place[]> => {
    const { row } = (await readState(table, connector, clock.now()))!;
    return (await loadProgress(table, { connector, incarnation: row.incarnation })).offsets;
  };

  /** The upstream's partitions of one task. It is told only of what is durable (invariant 2). */
  const sourceOf =
    (connector: string, upstream: ReadonlyMap<string, Row[]>, stored: () => Promise<readonly Place[]>) =>
    (task: number, tasks: number) => {
      const topic = specs.get(connector)!.to?.[0]?.name ?? 'rows';
      const mine = new Map([...upstream].filter((_, p) => p % tasks === task));
      const told = arraySource(mine, topic, async (partition, next) => {
        if (placeIn(await stored(), partition) < next)
          onWrong(new Error(`${connector} acknowledged ${partition} ${next} before it was durable`));
      });
      const source = shape.asked ? askedSource(mine, topic) : told;
      return { ...source, commit: told.commit! } as SourceTask<never>;
    };

  for (const [name, upstream] of upstreams) {
    const read = sourceOf(name, upstream, () => inState(name));
    platform.plugins.set(name, { source: (row, task) => read(task, row.tasks) });
  }
  /** By connector and incarnation: one that is made again writes to a place of its own. */
  const places = new Map<string, { readonly target: Target; readonly allowed: Allowed }>();
  const resets = new Map<string, number>();
  let since: Pick<ReadonlyMap<string, number>, 'get'> | undefined;
  const placeOf = (name: string, incarnation: string, destination: Destination) => {
    const id = `${name} ${incarnation}`;
    const place = places.get(id) ?? {
      target: makeTarget(destination),
      allowed: {
        get resets() {
          return resets.get(name) ?? 0;
        },
        get since() {
          return name === 'extra' ? since : undefined;
        },
      },
    };
    places.set(id, place);
    return place;
  };
  const addSink = (name: string, destination: Destination, direct: boolean) =>
    platform.plugins.set(name, {
      ...(direct
        ? {
            source: (row, task) => {
              const { target } = placeOf(name, row.incarnation, destination);
              const stored = target.stored ?? (() => inState(name));
              return sourceOf(name, upstreams.get('source')!, stored)(task, row.tasks);
            },
          }
        : {}),
      sink: (row, _task, process) => placeOf(name, row.incarnation, destination).target.sink(process),
    });
  for (const [i, { destination, from }] of shape.sinks.entries()) addSink(`sink-${i}`, destination, from === 'direct');
  addSink('extra', 'owning', false);
  for (const spec of specs.values()) await apply(spec);

  const names = () => table.names('connector');

  const isDone = async (name: string): Promise<boolean> => {
    const state = await readState(table, name, clock.now());
    if (state === undefined) return true;
    const { row, tasks, unfinished, lagRecords = 0 } = state;
    if (lagRecords > 0 || unfinished || row.pendingTasks !== undefined || row.held !== undefined) return false;
    if (tasks.some((task) => isHeld(task.row, clock.now()) || task.row.state === 'FAILED')) return false;
    if (row.from !== undefined) return true;
    const stood = await inState(name);
    const upstream = upstreams.get(name) ?? upstreams.get('source')!;
    return [...upstream].every(([partition, rows]) => placeIn(stood, partition) === rows.length);
  };

  /** All that was ever appended, with what retention removed since. */
  const readLog = async (topic: string): Promise<readonly Row[]> => {
    for (const put of removed) await table.write([{ put }]);
    const source = logSource({ table, objects, topics: [topic], task: 0, tasks: 1, now: () => 0 });
    const at = new Map<string, LogOffset>();
    const budget = { maxRecords: 1_000_000, maxBytes: 1 << 30, signal: new AbortController().signal };
    const rows: Row[] = [];
    for (;;) {
      const poll = await source.poll({ get: (partition) => at.get(partitionKey(partition)), all: () => [] }, budget);
      if (poll.batch.count === 0) return rows;
      rows.push(...[...poll.batch].map(rowOf));
      for (const { partition, offset } of poll.offsets) at.set(partitionKey(partition), offset);
    }
  };

  const expectedOf = ({ from, kind }: Pick<ConnectorSpec, 'from' | 'kind'>) => {
    const read =
      kind === 'direct' ? ['source'] : (from ?? []).map((topic) => (topic === 'others' ? 'second' : 'source'));
    return byKey([...new Set(read)].flatMap((name) => [...upstreams.get(name)!.values()].flat()));
  };

  const removed: Item[] = [];
  /** When a sweep began that ended well, since the last order of an operator was under way. */
  const times = { sweptMs: 0 };

  return {
    ...platform,
    specs,
    names,
    upstreams,
    times,
    isUnfenced: (name: string) =>
      name.startsWith('sink-') && shape.sinks[Number(name.slice(5))]!.destination === 'keyed',
    /** Somebody comes later: by key, what there is by then. Undefined: whoever makes or removes him may die of it, and nothing is promised. */
    comes(counts: ReadonlyMap<string, number> | undefined) {
      since = counts ?? { get: () => Number.POSITIVE_INFINITY };
    },
    resets: (name: string) => void resets.set(name, (resets.get(name) ?? 0) + 1),
    /** Whether that sweep has kept all that a reader who is reset now may go back to: else it begins with what is left. */
    isKept: (sweptMs: number) => clock.now() + marginMs < sweptMs + soonMs,
    /** As TTL: some of what has ended goes, in any order. Not what no sweep could have kept in time for who came or was reset since. */
    async removeEnded(isTaken: () => boolean) {
      const untilMs = Math.min(clock.now(), times.sweptMs + soonMs);
      for (const name of await table.names('topic'))
        for (let generation = 0; generation < 10; generation++)
          for (let queue = 0; queue < 5; queue++)
            removed.push(...(await removeEnded(table, `${name}#${generation}#${queue}`, untilMs, isTaken)));
    },
    async isAtRest() {
      for (const name of await names()) if (!(await isDone(name))) return false;
      return true;
    },
    /** Nothing lost, nothing doubled, each key in order. */
    async check() {
      for (const name of await names()) {
        const state = (await readState(table, name, clock.now()))!;
        const place = places.get(`${name} ${state.row.incarnation}`);
        if (place === undefined) {
          // Nothing was there for it to read.
          if (name === 'extra' || name.startsWith('sink')) expect(state.lagRecords ?? 0, name).toBe(0);
          continue;
        }
        place.target.check(name, expectedOf(state.row), place.allowed);
      }
      for (const topic of await table.names('topic')) {
        const upstream = upstreams.get(topic === 'others' ? 'second' : 'source')!;
        expect(byKey(await readLog(topic)), `the log of ${topic}`).toEqual(byKey([...upstream.values()].flat()));
      }
    },
    describe: async () => {
      const states = await Promise.all((await names()).map((name) => readState(table, name, clock.now())));
      return JSON.stringify(states, null, 1);
    },
  };
};

const placeIn = (places: readonly Place[], name: string): number =>
  (places.find(({ partition }) => partition.name === name)?.offset as { next: number } | undefined)?.next ?? 0;

const specsOf = ({ queues, sourceTasks, second, processor, limited, sinks, retryTimeoutMs }: PipelineShape) => {
  const errors = { tolerance: 'none', retryTimeoutMs, retryDelayMaxMs: 1_000 } as const;
  const common = { maxRecords: 3, errors };
  const topic = (name: string) => ({ name, queues, retentionMs, ...(limited ? { maxBacklogBytes: 1_500 } : {}) });
  const readable = (from: PipelineShape['sinks'][number]['from']): string[] => {
    if (from === 'derived' && processor) return ['derived'];
    return from === 'merged' && second ? ['rows', 'others'] : ['rows'];
  };
  return [
    specOf({ ...common, name: 'source', kind: 'source', to: [topic('rows')], tasks: sourceTasks }),
    ...(second ? [specOf({ ...common, name: 'second', kind: 'source', to: [topic('others')] })] : []),
    ...(processor
      ? [specOf({ ...common, name: 'derive', kind: 'processor', from: ['rows'], to: [topic('derived')] })]
      : []),
    ...sinks.map(({ from, tasks }, i) =>
      specOf({
        ...common,
        name: `sink-${i}`,
        tasks,
        ...(from === 'direct' ? { kind: 'direct' } : { kind: 'sink', from: readable(from) }),
      }),
    ),
  ];
};

/** A reader that comes while everything runs. */
export const extraSpec = (): ConnectorSpec => specOf({ name: 'extra', kind: 'sink', from: ['rows'], maxRecords: 3 });
