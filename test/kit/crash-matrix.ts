import { randomBytes } from 'node:crypto';
import { expect } from 'vitest';
import type { ErrorPolicy } from '../../shared/connect/spec.ts';
import { recordTransform } from '../../shared/connect/transform.ts';
import { memoryObjects } from '../../shared/log/objects.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { defaultErrorPolicy } from '../../shared/state/connectors.ts';
import { offsetKey } from '../../shared/state/keys.ts';
import type { Table } from '../../shared/state/table.ts';
import { type Fault, type FaultPlan, faultPlan, faults } from './faults.ts';
import {
  arraySource,
  keyedDestination,
  owningDestination,
  type Row,
  rowOf,
  stagedDestination,
} from './memory-connectors.ts';
import { createWorld, fromLog, makeTopic, manualClock, toLog, type WorldTask } from './world.ts';

export type Destination = 'owning' | 'keyed' | 'staged';

/**
 * Which operations go wrong. `one of each kind`: for a store that takes its time, each fault at another one of the kind, without those
 * faults that send it nothing.
 */
export type Extent = 'every operation' | 'one of each kind';

const rowsOf = (keys: readonly string[], each: number): readonly Row[] =>
  Array.from({ length: each }, (_, n) => keys.map((key) => ({ key, n }))).flat();

/** Two partitions; a key belongs to one of them. The second one's rows do not compress, so that their bodies become objects. */
const makeUpstream = (each: number): ReadonlyMap<string, readonly Row[]> =>
  new Map([
    ['a', rowsOf(['k1', 'k2', 'k3'], each)],
    ['b', rowsOf(['k4', 'k5'], each + 1).map((row) => ({ ...row, pad: randomBytes(4_096).toString('base64') }))],
  ]);

type Upstream = ReturnType<typeof makeUpstream>;

/** Tasks that a schedule runs one after the other, and what must be true when all have come to rest. */
interface Scenario {
  readonly tasks: readonly WorldTask[];
  check(): void;
}

type MakeScenario = (table: Table, clock: Clock) => Promise<Scenario>;

/**
 * source → log → destination, once without a fault to count the operations, then once per operation and fault. After each, nothing
 * is lost, nothing doubled, and each key's records are in order. Returns the number of schedules.
 */
export const crashMatrix = (
  destination: Destination,
  newTable: () => Promise<Table>,
  recordsPerKey: number,
  { errors = defaultErrorPolicy, extent = 'every operation' }: { errors?: ErrorPolicy; extent?: Extent } = {},
): Promise<number> => {
  const upstream = makeUpstream(recordsPerKey);
  const make: MakeScenario = async (table, clock) => {
    await makeTopic(table, 'rows', 2);
    const target = makeTarget(upstream, destination);
    const sink: WorldTask = { name: 'sink', source: fromLog('rows', clock), sink: (process) => target.sink(process) };
    return { tasks: [sourceTask(upstream, table, clock), sink], check: target.check };
  };
  // A request that is on its way when its sender falls asleep can't be called back by anybody: only a destination that
  // compares offsets, epochs or versions is safe from it.
  const skip = (name: string, fault: Fault) =>
    destination === 'keyed' && fault === 'zombie' && /^(put|write k.*)$/.test(name);
  return everyFault(make, newTable, errors, extent, skip);
};

/**
 * source → rows → processor → derived, and both topics into destinations of their own: what is derived is read once, with other logic,
 * and yet agrees with the copy, record for record.
 */
export const processorMatrix = (
  newTable: () => Promise<Table>,
  recordsPerKey: number,
  extent: Extent = 'every operation',
): Promise<number> => {
  const upstream = makeUpstream(recordsPerKey);
  const make: MakeScenario = async (table, clock) => {
    await makeTopic(table, 'rows', 2);
    await makeTopic(table, 'derived', 3);
    const [copy, derived] = [owningDestination(), owningDestination()];
    return {
      tasks: [
        sourceTask(upstream, table, clock),
        {
          name: 'processor',
          source: fromLog('rows', clock),
          sink: toLog('derived', 'processor', clock),
          transforms: [recordTransform('derive', (record) => derive(rowOf(record)).map(toRecord))],
        },
        { name: 'copy', source: fromLog('rows', clock), sink: copy.sink },
        { name: 'derived', source: fromLog('derived', clock), sink: derived.sink },
      ],
      check() {
        checkExact(upstream, copy.rows);
        expect(byKey(derived.rows)).toEqual(byKey(copy.rows.flatMap(derive)));
      },
    };
  };
  return everyFault(make, newTable, defaultErrorPolicy, extent, () => false);
};

/** One key is left out, one becomes two records, the others one. */
const derive = ({ key, n }: Row): readonly Row[] => {
  if (key === 'k3') return [];
  return key === 'k1'
    ? [
        { key, n: 2 * n },
        { key, n: 2 * n + 1 },
      ]
    : [{ key, n: -n }];
};

const toRecord = (row: Row) => ({ topic: 'derived', key: row.key, value: { ...row } });

const everyFault = async (
  make: MakeScenario,
  newTable: () => Promise<Table>,
  errors: ErrorPolicy,
  extent: Extent,
  skip: (name: string, fault: Fault) => boolean,
): Promise<number> => {
  const { names } = await schedule(make, errors, await newTable(), {});
  expect(names, 'large bodies go through the object store').toContain('object put');
  const kinds = [
    ...Map.groupBy(names.keys(), (at) => (extent === 'every operation' ? at : kindOf(names[at]!))).values(),
  ];
  const sent = faults.filter((fault) => fault !== 'crash before' && fault !== 'hang');
  let cases = 0;
  for (const [i, fault] of (extent === 'every operation' ? faults : sent).entries())
    for (const at of kinds.map((of) => of[i % of.length]!)) {
      if (skip(names[at]!, fault)) continue;
      try {
        const plan = await schedule(make, errors, await newTable(), { at, fault });
        expect(plan.fired(), 'the fault was injected').toBe(true);
      } catch (cause) {
        throw new Error(`${fault} at operation ${at} (${names[at]}): ${(cause as Error).message}`, { cause });
      }
      cases++;
    }
  return cases;
};

/** A write of one item is another request than a transaction of many; how many does not matter. */
const kindOf = (name: string): string => (name === 'write 1' ? name : name.replace(/\d+/g, 'n'));

const schedule = async (
  make: MakeScenario,
  errors: ErrorPolicy,
  table: Table,
  fault: { at?: number; fault?: Fault },
): Promise<FaultPlan> => {
  const clock = manualClock();
  const world = createWorld(table, clock, memoryObjects(), errors);
  const { tasks, check } = await make(table, clock);
  let current = tasks[0]!;
  const plan = faultPlan({ ...fault, duplicate: async () => void (await world.run(current, faultPlan().process())) });
  for (const task of tasks) {
    current = task;
    await world.drain(task, plan);
  }
  // Whatever the fault left behind, a calm sweep brings everything to rest.
  for (const task of tasks) await world.drain(task, faultPlan());
  check();
  return plan;
};

const sourceTask = (upstream: Upstream, table: Table, clock: Clock): WorldTask => ({
  name: 'source',
  source: () => arraySource(upstream, 'rows', (partition, next) => checkDurable(table, partition, next)),
  sink: toLog('rows', 'source', clock),
});

/** Invariant 2: the upstream is told only of what is durable. */
const checkDurable = async (table: Table, partition: string, next: number): Promise<void> => {
  const item = await table.get(offsetKey('source', 'i1', JSON.stringify({ name: partition })));
  expect(JSON.parse(String(item?.offset)).next, 'acknowledged upstream before it was durable').toBeGreaterThanOrEqual(
    next,
  );
};

const makeTarget = (upstream: Upstream, destination: Destination) => {
  switch (destination) {
    case 'owning': {
      const { rows, sink } = owningDestination();
      return { sink, check: () => checkExact(upstream, rows) };
    }
    case 'staged': {
      const { rows, sink } = stagedDestination();
      return { sink, check: () => checkExact(upstream, rows()) };
    }
    case 'keyed': {
      const { last, sink } = keyedDestination();
      return { sink, check: () => checkLast(upstream, last) };
    }
  }
};

const byKey = (rows: readonly Row[]): Record<string, readonly number[]> => {
  const groups = Map.groupBy(rows, ({ key }) => key);
  return Object.fromEntries(Array.from(groups, ([key, group]) => [key, group.map(({ n }) => n)]));
};

/** Exactly once, and in order per key. */
const checkExact = (upstream: Upstream, rows: readonly Row[]): void =>
  expect(byKey(rows)).toEqual(byKey([...upstream.values()].flat()));

/** Each key shows its last record: an older one was never put over a newer one. */
const checkLast = (upstream: Upstream, last: ReadonlyMap<string, number>): void => {
  const expected = Object.entries(byKey([...upstream.values()].flat())).map(([key, ns]) => [key, ns.at(-1)]);
  expect(Object.fromEntries(last)).toEqual(Object.fromEntries(expected));
};
