import fc from 'fast-check';
import { expect } from 'vitest';
import { sweep } from '../../functions/coordinator/sweep.ts';
import { type ChangedKey, dispatch } from '../../functions/dispatcher/dispatch.ts';
import type { Partition, SinkTask, SourceTask } from '../../shared/connect/connector.ts';
import { memoryObjects } from '../../shared/log/objects.ts';
import { logSource } from '../../shared/log/read.ts';
import { applyConnector } from '../../shared/management/apply.ts';
import type { InvokeFunction, RunEvent } from '../../shared/management/ports.ts';
import { readState } from '../../shared/management/status.ts';
import { changeTarget, restartConnector } from '../../shared/management/tasks.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { isHeld } from '../../shared/state/lease.ts';
import { memoryTable } from '../../shared/state/memory/table.ts';
import { loadProgress } from '../../shared/state/offsets.ts';
import type { Verb } from '../../shared/state/states.ts';
import type { Key } from '../../shared/state/table.ts';
import { faultyTable } from './faults.ts';
import {
  arraySource,
  askedSource,
  keyedDestination,
  owningDestination,
  type Row,
  rowOf,
  stagedDestination,
} from './memory-connectors.ts';
import { createPlatform, leaseMs, recordedFunctions, specOf } from './platform.ts';
import { createScheduler, operationFaults, type Scheduled, type Waiting } from './scheduler.ts';
import { watchedTable } from './watched-table.ts';
import { manualClock } from './world.ts';

export const destinations = ['owning', 'keyed', 'staged'] as const;
export type Destination = (typeof destinations)[number];

/** A pipeline, and what happens to it: `schedule` is read number by number, each deciding one thing. */
export interface Plan {
  readonly partitions: number;
  readonly queues: number;
  readonly sourceTasks: number;
  /** Whether the source can say if there is more, or must be polled. */
  readonly asked: boolean;
  readonly sinks: readonly { readonly destination: Destination; readonly direct: boolean; readonly tasks: number }[];
  readonly retryTimeoutMs: number;
  readonly schedule: readonly number[];
}

export const planArbitrary: fc.Arbitrary<Plan> = fc.record({
  partitions: fc.integer({ min: 1, max: 3 }),
  queues: fc.integer({ min: 1, max: 3 }),
  sourceTasks: fc.integer({ min: 1, max: 2 }),
  asked: fc.boolean(),
  sinks: fc.array(
    fc.record({
      destination: fc.constantFrom(...destinations),
      direct: fc.boolean(),
      tasks: fc.integer({ min: 1, max: 2 }),
    }),
    { minLength: 1, maxLength: 2 },
  ),
  retryTimeoutMs: fc.constantFrom(0, 3_600_000),
  schedule: fc.array(fc.nat(0xffff), { minLength: 100, maxLength: 700, size: 'max' }),
});

/** Clocks differ by this much in either direction. */
const skewMs = 2_000;
/** A function is killed this long before its lease expires: the grace of shared/lambda/deadline.ts. */
const graceMs = 5_000;
const maxAlive = 6;
/** Sweeps until everything is at rest: a task that failed and failed again waits up to an hour for its restart. */
const maxSweeps = 75;

/**
 * Runs a plan: processes that take turns operation by operation, faults, lost and doubled triggers, operators; then calm. Whatever
 * happened, in the end nothing is lost, nothing doubled, each key in order. Resolves with what happened, step by step.
 */
export const simulate = async (plan: Plan): Promise<readonly string[]> => {
  const scheduler = createScheduler();
  try {
    const world = await createSimulation(plan, scheduler);
    await world.chaos();
    await world.calm();
    await world.check();
    return scheduler.trace;
  } catch (cause) {
    const tail = scheduler.trace.slice(-60).join('\n  ');
    throw new Error(`${(cause as Error).message}\nthe last steps:\n  ${tail}`, { cause });
  } finally {
    for (const process of scheduler.alive) process.kill();
    scheduler.stop();
  }
};

const createSimulation = async (plan: Plan, scheduler: ReturnType<typeof createScheduler>) => {
  const { waiting, alive, spawn, failures } = scheduler;
  const clock = manualClock();
  let skew = 0;
  const skewed = (offset: number): Clock => ({
    now: () => clock.now() + offset + skew,
    delay: async () => clock.advance(500),
  });
  const changes: ChangedKey[] = [];
  let sequence = 0;
  const onChange = (key: Key) => void changes.push({ ...key, sequenceNumber: String(sequence++) });
  const onWrong = (error: unknown) => void failures.push(error);
  const table = watchedTable(memoryTable(), onChange, onWrong);
  const objects = memoryObjects();
  const platform = createPlatform({ table, objects, clock });
  const upstream = new Map<string, Row[]>(Array.from({ length: plan.partitions }, (_, p) => [`p${p}`, []]));
  const counts = new Map<string, number>();

  /** Reads the schedule on; at its end there is nothing left to decide. */
  let at = 0;
  const pick = (count: number): number => (plan.schedule[at++] ?? 0) % count;
  const pickOf = <T>(items: readonly T[]): T => items[pick(items.length)]!;

  const invocations: RunEvent[] = [];
  const functions: InvokeFunction = {
    event: async (_, payload) => void ('task' in payload && invocations.push(payload)),
    request: async () => ({ problems: [] }),
  };

  const produce = (rows: number) => {
    for (let i = 0; i < rows; i++) {
      const partition = pickOf([...upstream.keys()]);
      const key = `${partition}-k${pick(3)}`;
      const n = counts.get(key) ?? 0;
      counts.set(key, n + 1);
      upstream.get(partition)!.push({ key, n });
    }
  };

  // Invariant 2: what is acknowledged upstream is committed.
  const checkDurable =
    (connector: string, stored: () => Promise<readonly { partition: Partition; offset: unknown }[]>) =>
    async (partition: string, next: number): Promise<void> => {
      const offset = (await stored()).find((one) => one.partition.name === partition)?.offset as
        | { next: number }
        | undefined;
      if ((offset?.next ?? 0) < next)
        onWrong(new Error(`${connector} acknowledged ${partition} ${next} before it was durable`));
    };
  const inState = (connector: string) => async () => {
    const state = await readState(table, connector, clock.now());
    return (await loadProgress(table, { connector, incarnation: state!.row.incarnation })).offsets;
  };

  const sourceTask = (task: number, tasks: number, onCommit: (partition: string, next: number) => Promise<void>) => {
    const mine = new Map([...upstream].filter((_, p) => p % tasks === task));
    const source = plan.asked ? askedSource(mine, 'rows') : arraySource(mine, 'rows');
    return { ...source, commit: arraySource(mine, 'rows', onCommit).commit! };
  };

  const topic = { name: 'rows', queues: plan.queues, retentionMs: 3_600_000 };
  const errors = { tolerance: 'none', retryTimeoutMs: plan.retryTimeoutMs, retryDelayMaxMs: 1_000 } as const;
  const specs = new Map([
    ['source', specOf({ name: 'source', kind: 'source', to: [topic], tasks: plan.sourceTasks, maxRecords: 3, errors })],
    ...plan.sinks.map(({ direct, tasks }, i) => {
      const name = `sink-${i}`;
      const common = { name, tasks, maxRecords: 3, errors };
      return [
        name,
        direct ? specOf({ ...common, kind: 'direct' }) : specOf({ ...common, kind: 'sink', from: ['rows'] }),
      ] as const;
    }),
  ]);
  platform.plugins.set('source', {
    source: (row, task) => sourceTask(task, row.tasks, checkDurable('source', inState('source'))) as SourceTask<never>,
  });
  const targets = plan.sinks.map(({ destination, direct }, i) => {
    const name = `sink-${i}`;
    const target = makeTarget(destination);
    const stored = target.stored ?? inState(name);
    platform.plugins.set(name, {
      ...(direct
        ? { source: (row, task) => sourceTask(task, row.tasks, checkDurable(name, stored)) as SourceTask<never> }
        : {}),
      sink: (_row, _task, process) => target.sink(process),
    });
    return { name, destination, ...target };
  });
  for (const spec of specs.values()) await applyConnector(table, recordedFunctions().functions, spec);
  const names = [...specs.keys()];

  /** When a function is killed by its own deadline; a process of another kind has none. */
  const deadlines = new Map<Scheduled, number>();
  let processes = 0;
  const start = async (label: string, main: (process: Scheduled) => Promise<unknown>): Promise<void> => {
    if (alive.size < maxAlive) await spawn(`${label} ${processes++}`, main);
  };
  const invoke = ({ connector, task }: Pick<RunEvent, 'connector' | 'task'>) =>
    start(`${connector}#${task}`, (process) => {
      deadlines.set(process, clock.now() + leaseMs - graceMs);
      return platform.invoke(connector, task, process, {}, skewed(pick(2 * skewMs) - skewMs));
    });
  const gated = (process: Scheduled) => faultyTable(table, process);
  const sweepOnce = () => start('sweep', (process) => sweep(gated(process), functions, clock.now(), () => {}));
  const deliver = (batch: readonly ChangedKey[]) =>
    start('dispatcher', (process) => dispatch(gated(process), functions, batch, clock.now()));

  /**
   * A request that is on its way to a destination that compares nothing can't be called back: only the deadline protects it, which
   * comes before the lease's end. Every other operation may be a sleeper's.
   */
  const isTooLate = ({ process, name }: Waiting): boolean => {
    const sink = targets.find((target) => process.name.startsWith(`${target.name}#`));
    const isUnfenced = sink?.destination === 'keyed' && /^(put|write k|write p)/.test(name);
    return isUnfenced && clock.now() >= deadlines.get(process)!;
  };

  let burst = 0;
  const step = async (fault?: (typeof operationFaults)[number]): Promise<void> => {
    const next = pickOf(waiting);
    if (isTooLate(next)) return next.process.kill();
    const isStore = /^(get|query|write \d|names)/.test(next.name);
    if (isStore && burst > 0) {
      burst--;
      return next.go(pickOf(['unavailable', 'lost answer'] as const));
    }
    return next.go(fault);
  };

  const operate = () => {
    const name = pickOf(names);
    const spec = specs.get(name)!;
    const tasks = 1 + pick(2);
    const what = pickOf(['pause', 'resume', 'stop', 'restart', 'tasks'] as const);
    return start(`operator ${what} ${name}`, (process) => {
      if (what === 'tasks') return applyConnector(gated(process), functions, { ...spec, tasks });
      if (what === 'restart') return restartConnector(gated(process), functions, name);
      return changeTarget(gated(process), functions, name, what satisfies Verb);
    });
  };

  /** A trigger: one that was sent, taken out of order, sometimes kept to come again; or one out of the blue. */
  const trigger = () => {
    const event =
      invocations.length > 0 && pick(4) > 0 ? pickOf(invocations) : { connector: pickOf(names), task: pick(2) };
    const sent = invocations.indexOf(event as RunEvent);
    if (sent >= 0 && pick(4) > 0) invocations.splice(sent, 1);
    return pick(8) === 0 ? undefined : invoke(event);
  };

  const hear = () => {
    const from = pick(changes.length + 1);
    const batch = changes.slice(from, from + 1 + pick(4));
    if (pick(4) > 0) changes.splice(from, batch.length);
    return pick(4) === 0 ? undefined : deliver(batch);
  };

  const act = async (): Promise<void> => {
    const choice = pick(48);
    if (choice < 30 && waiting.length > 0) return step();
    if (choice < 34 && waiting.length > 0) return step(pickOf(operationFaults));
    if (choice < 38) return trigger();
    if (choice < 41) return produce(1 + pick(5));
    if (choice < 44) return hear();
    if (choice < 45) return sweepOnce();
    if (choice < 46) return void clock.advance(pickOf([500, 20_000, leaseMs + 5_000, 600_000]));
    if (choice < 47) return operate();
    if (pick(2) === 0) burst = pick(8);
    else skew = pick(1_000) - 500;
  };

  const chaos = async (): Promise<void> => {
    produce(6);
    for (const connector of names) await invoke({ connector, task: 0 });
    while (at < plan.schedule.length) await act();
  };

  /** Lets everybody who is alive come to an end, sleepers too. */
  const runOut = async (): Promise<void> => {
    for (let i = 0; waiting.length > 0; i++) {
      const next = waiting[(i * 7) % waiting.length]!;
      if (isTooLate(next)) next.process.kill();
      else await next.go();
    }
  };

  const isAtRest = async (): Promise<boolean> => {
    for (const name of names) {
      const state = (await readState(table, name, clock.now()))!;
      if ((state.lagRecords ?? 0) > 0 || state.unfinished || state.row.pendingTasks !== undefined) return false;
      if (state.tasks.some(({ row }) => isHeld(row, clock.now()) || row.state === 'FAILED')) return false;
      if (state.row.from === undefined && !(await hasRead(name))) return false;
    }
    return true;
  };
  const hasRead = async (name: string): Promise<boolean> => {
    const offsets = new Map(
      (await inState(name)()).map((one) => [one.partition.name, (one.offset as { next: number }).next]),
    );
    return [...upstream].every(([partition, rows]) => (offsets.get(partition) ?? 0) === rows.length);
  };

  /** No faults, and no help: streams are silent, only the sweep and the sources' schedule are left. */
  const calm = async (): Promise<void> => {
    burst = 0;
    changes.length = 0;
    invocations.length = 0;
    for (const process of alive) if (process.name.startsWith('operator')) process.kill();
    for (const name of names) {
      await changeTarget(table, recordedFunctions().functions, name, 'resume');
      // A task that was killed often enough has to be: POISON waits for an operator.
      await restartConnector(table, recordedFunctions().functions, name);
    }
    for (let sweeps = 0; !(await isAtRest()); sweeps++) {
      if (sweeps === maxSweeps) throw new Error(`not at rest after ${sweeps} sweeps: ${await describeState()}`);
      clock.advance(60_000);
      await sweepOnce();
      await runOut();
      for (const name of names)
        if (specs.get(name)!.from === undefined)
          for (const task of [0, 1]) invocations.push({ connector: name, task, reason: 'schedule' });
      while (invocations.length > 0) {
        await invoke(invocations.shift()!);
        if (alive.size === maxAlive) await runOut();
      }
      await runOut();
    }
  };

  const describeState = async (): Promise<string> => {
    const states = await Promise.all(names.map((name) => readState(table, name, clock.now())));
    return JSON.stringify(
      states.map((state) => ({ name: state!.row.name, lag: state!.lagRecords, tasks: state!.tasks })),
    );
  };

  const check = async (): Promise<void> => {
    if (failures.length > 0) throw failures[0];
    const expected = [...upstream.values()].flat();
    expect(byKey(await readLog()), 'the log').toEqual(byKey(expected));
    for (const { name, check: checkTarget } of targets) checkTarget(name, expected);
  };

  const readLog = async (): Promise<readonly Row[]> => {
    const source = logSource({ table, objects, topics: ['rows'], task: 0, tasks: 1, now: clock.now });
    const { batch } = await source.poll(
      { get: () => undefined, all: () => [] },
      { maxRecords: 1_000_000, maxBytes: 1 << 30, signal: new AbortController().signal },
    );
    return [...batch].map(rowOf);
  };

  return { chaos, calm, check };
};

interface Target {
  sink(process: Scheduled | Parameters<ReturnType<typeof keyedDestination>['sink']>[0]): SinkTask;
  /** Present where the destination owns its offsets. */
  stored?(): Promise<readonly { partition: Partition; offset: unknown }[]>;
  check(name: string, expected: readonly Row[]): void;
}

const makeTarget = (destination: Destination): Target => {
  switch (destination) {
    case 'owning': {
      const { rows, sink } = owningDestination();
      return {
        sink,
        stored: () => sink().offsets!(),
        check: (name, expected) => expect(byKey(rows), name).toEqual(byKey(expected)),
      };
    }
    case 'staged': {
      const { rows, sink } = stagedDestination();
      return { sink, check: (name, expected) => expect(byKey(rows()), name).toEqual(byKey(expected)) };
    }
    case 'keyed': {
      const { last, sink } = keyedDestination();
      return {
        sink,
        check: (name, expected) =>
          expect(Object.fromEntries(last), name).toEqual(
            Object.fromEntries(Object.entries(byKey(expected)).map(([key, ns]) => [key, ns.at(-1)])),
          ),
      };
    }
  }
};

const byKey = (rows: readonly Row[]): Record<string, number[]> => {
  const keys: Record<string, number[]> = {};
  for (const { key, n } of rows) (keys[key] ??= []).push(n);
  return keys;
};
