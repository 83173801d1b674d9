import fc from 'fast-check';
import { sweep } from '../../functions/coordinator/sweep.ts';
import { type ChangedKey, dispatch } from '../../functions/dispatcher/dispatch.ts';
import { isCode } from '../../shared/connect/errors.ts';
import { applyConnector, removeConnector } from '../../shared/management/apply.ts';
import { resetOffsets } from '../../shared/management/offsets.ts';
import type { InvokeFunction, RunEvent } from '../../shared/management/ports.ts';
import { readState } from '../../shared/management/status.ts';
import { changeTarget, restartConnector } from '../../shared/management/tasks.ts';
import type { Table } from '../../shared/state/table.ts';
import { faultyTable } from './faults.ts';
import { leaseMs, recordedFunctions } from './platform.ts';
import { createScheduler, operationFaults, type Scheduled, type Waiting } from './scheduler.ts';
import { createPipeline, extraSpec, type PipelineShape } from './simulated-pipeline.ts';
import { destinations } from './simulated-targets.ts';

/** A pipeline, and what happens to it: `schedule` is read number by number, each deciding one thing. */
export interface Plan {
  readonly shape: PipelineShape;
  readonly schedule: readonly number[];
}

export const planArbitrary: fc.Arbitrary<Plan> = fc.record({
  shape: fc.record({
    partitions: fc.integer({ min: 1, max: 3 }),
    queues: fc.integer({ min: 1, max: 3 }),
    sourceTasks: fc.integer({ min: 1, max: 2 }),
    asked: fc.boolean(),
    second: fc.boolean(),
    processor: fc.boolean(),
    limited: fc.boolean(),
    sinks: fc.array(
      fc.record({
        destination: fc.constantFrom(...destinations),
        from: fc.constantFrom('rows', 'rows', 'derived', 'merged', 'direct'),
        tasks: fc.integer({ min: 1, max: 3 }),
      }),
      { minLength: 1, maxLength: 3 },
    ),
    retryTimeoutMs: fc.constantFrom(0, 3_600_000),
  }),
  // Without bias: small numbers would mean the same few things again and again.
  schedule: fc.noBias(fc.array(fc.nat(0xffff), { minLength: 100, maxLength: 700, size: 'max' })),
});

/** Clocks differ by this much in either direction. */
const skewMs = 2_000;
/** A function is killed this long before its lease expires: the grace of shared/lambda/deadline.ts. */
const graceMs = 5_000;
const maxAlive = 6;
/** Sweeps until everything is at rest: a task that failed and failed again waits up to an hour for its restart. */
const maxSweeps = 75;

/**
 * Runs a plan: processes that take turns operation by operation, faults, lost and doubled triggers, operators; then calm, with only
 * the sweep and the sources' schedule left. Whatever happened, in the end nothing is lost, nothing doubled, each key in order.
 * Resolves with what happened, step by step.
 */
export const simulate = async (plan: Plan): Promise<readonly string[]> => {
  const scheduler = createScheduler();
  try {
    const world = await createWorld(plan, scheduler);
    await chaos(world);
    await noPositionIsLost(world);
    await calm(world);
    if (scheduler.failures.length > 0) throw scheduler.failures[0];
    await world.pipeline.check();
    return scheduler.trace;
  } catch (cause) {
    const tail = scheduler.trace.slice(-60).join('\n  ');
    throw new Error(`${(cause as Error).message}\nthe last steps:\n  ${tail}`, { cause });
  } finally {
    for (const process of scheduler.alive) process.kill();
    scheduler.stop();
  }
};

const createWorld = async ({ shape, schedule }: Plan, scheduler: ReturnType<typeof createScheduler>) => {
  const changes: ChangedKey[] = [];
  const invocations: RunEvent[] = [];
  let sequence = 0;
  const pipeline = await createPipeline(
    shape,
    (key) => void changes.push({ ...key, sequenceNumber: String(sequence++) }),
    (error) => void scheduler.failures.push(error),
  );
  const functions: InvokeFunction = {
    event: async (_, payload) => void ('task' in payload && invocations.push(payload)),
    request: async () => ({ problems: [] }),
  };
  let at = 0;
  const pick = (count: number): number => (schedule[at++] ?? 0) % count;
  return {
    scheduler,
    pipeline,
    functions,
    changes,
    invocations,
    pick,
    pickOf: <T>(items: readonly T[]): T => items[pick(items.length)]!,
    isOver: () => at >= schedule.length,
    /** When a function is killed by its own deadline; a process of another kind has none. */
    deadlines: new Map<Scheduled, number>(),
    counts: new Map<string, number>(),
    processes: { started: 0 },
    /** Orders of operators that move where readers stand. */
    orders: [] as Scheduled[],
    /** How many operations of the store go wrong in a row from now on. */
    burst: { left: 0 },
    /** How far all clocks have jumped. */
    skew: { ms: 0 },
  };
};

type World = Awaited<ReturnType<typeof createWorld>>;

const chaos = async (world: World): Promise<void> => {
  produce(world, 6);
  for (const connector of await world.pipeline.names()) await invoke(world, { connector, task: 0 });
  while (!world.isOver()) await act(world);
};

/** What a subscriber has not read is kept, and nobody else loses his place. */
const noPositionIsLost = async ({ pipeline }: World): Promise<void> => {
  for (const name of await pipeline.names())
    for (const { row } of (await readState(pipeline.table, name, pipeline.clock.now()))?.tasks ?? [])
      if (/^(LOST_POSITION|CORRUPT)/.test(row.trace ?? '')) throw new Error(`${name}: ${row.trace}`);
};

/** No faults, and no help: streams are silent. Who sleeps wakes up. */
const calm = async (world: World): Promise<void> => {
  const { scheduler, pipeline, burst, changes, invocations } = world;
  burst.left = 0;
  changes.length = 0;
  invocations.length = 0;
  for (const process of scheduler.alive) if (process.name.startsWith('operator')) process.kill();
  for (const name of await pipeline.names()) {
    await changeTarget(pipeline.table, recordedFunctions().functions, name, 'resume');
    // A task that was killed often enough has to be: POISON waits for an operator.
    await restartConnector(pipeline.table, recordedFunctions().functions, name);
  }
  for (let sweeps = 0; !(await pipeline.isAtRest()); sweeps++) {
    if (sweeps === maxSweeps) throw new Error(`not at rest after ${sweeps} sweeps: ${await pipeline.describe()}`);
    pipeline.clock.advance(60_000);
    await startSweep(world);
    await runOut(world);
    await pipeline.removeEnded(() => true);
    for (const [connector, { from }] of pipeline.specs)
      if (from === undefined) for (const task of [0, 1, 2]) invocations.push({ connector, task, reason: 'schedule' });
    while (invocations.length > 0) {
      await invoke(world, invocations.shift()!);
      if (scheduler.alive.size === maxAlive) await runOut(world);
    }
    await runOut(world);
  }
};

/** Lets everybody who is alive come to an end, in turns. */
const runOut = async (world: World): Promise<void> => {
  const { waiting } = world.scheduler;
  for (let i = 0; waiting.length > 0; i++) {
    const next = waiting[(i * 7) % waiting.length]!;
    if (isTooLate(world, next)) next.process.kill();
    else await next.go();
  }
};

/** One thing happens. */
const act = async (world: World): Promise<void> => {
  const { scheduler, pipeline, pick, pickOf, burst, skew } = world;
  const choice = pick(50);
  if (choice < 30 && scheduler.waiting.length > 0) return step(world);
  if (choice < 32 && scheduler.waiting.length > 0) return step(world, pickOf(operationFaults));
  if (choice < 36) return trigger(world);
  if (choice < 39) return produce(world, 1 + pick(12));
  if (choice < 41) return hear(world);
  if (choice < 43) return startSweep(world);
  if (choice < 45) return overtake(world);
  if (choice < 48) return operate(world);
  if (choice < 49) return pipeline.removeEnded(() => pick(3) > 0);
  if (pick(2) === 0) burst.left = pick(8);
  else skew.ms = pick(1_000) - 500;
  pipeline.clock.advance(pickOf([500, 20_000, 250_000]));
};

const step = async (world: World, fault?: (typeof operationFaults)[number]): Promise<void> => {
  const { scheduler, deadlines, pick, pickOf, burst } = world;
  const runs = scheduler.waiting.filter(({ process }) => deadlines.has(process));
  // Sweeps, dispatchers and operators are many; what they do is little.
  const usual = pickOf(runs.length > 0 && pick(4) > 0 ? runs : scheduler.waiting);
  const next = fault === undefined ? usual : (pickRun(world) ?? usual);
  if (isTooLate(world, next)) return next.process.kill();
  const isStore = /^(get|query|write \d|names)/.test(next.name);
  if (!isStore || burst.left === 0) return next.go(fault);
  burst.left--;
  return next.go(pickOf(['unavailable', 'lost answer'] as const));
};

/**
 * A request that is on its way to a destination that compares nothing can't be called back: only the function's deadline protects it,
 * which comes before the lease's end. Every other operation may be a sleeper's.
 */
const isTooLate = ({ pipeline, deadlines }: World, { process, name }: Waiting): boolean => {
  const isUnfenced = pipeline.isUnfenced(process.name.split('#')[0]!) && /^(put|write [pq])/.test(name);
  return isUnfenced && pipeline.clock.now() >= deadlines.get(process)!;
};

const start = async (world: World, label: string, main: (process: Scheduled) => Promise<unknown>): Promise<void> => {
  const { scheduler, processes } = world;
  if (scheduler.alive.size < maxAlive) await scheduler.spawn(`${label} ${processes.started++}`, main);
};

const invoke = (world: World, { connector, task }: Pick<RunEvent, 'connector' | 'task'>): Promise<void> => {
  const { pipeline, deadlines, pick, skew } = world;
  const ownSkewMs = pick(2 * skewMs) - skewMs;
  const clock = {
    now: () => pipeline.clock.now() + ownSkewMs + skew.ms,
    delay: async () => pipeline.clock.advance(500),
  };
  return start(world, `${connector}#${task}`, (process) => {
    deadlines.set(process, pipeline.clock.now() + leaseMs - graceMs);
    return pipeline.invoke(connector, task, process, {}, clock);
  });
};

const startSweep = (world: World): Promise<void> => {
  const { pipeline, functions, orders, scheduler } = world;
  return start(world, 'sweep', async (process) => {
    const startedMs = pipeline.clock.now();
    const seen = orders.length;
    let failed = orders.some((one) => scheduler.alive.has(one));
    const told = (level: string) => {
      failed ||= level === 'error';
    };
    await sweep(faultyTable(pipeline.table, process), functions, startedMs, told);
    if (!failed && orders.length === seen) pipeline.times.sweptMs = Math.max(pipeline.times.sweptMs, startedMs);
  });
};

/** Upstream grows: keys belong to partitions, and count their records. */
const produce = ({ pipeline, counts, pick, pickOf }: World, rows: number): void => {
  for (let i = 0; i < rows; i++) {
    const upstream = pickOf([...pipeline.upstreams.values()]);
    const partition = pickOf([...upstream.keys()]);
    const key = `${partition}-k${pick(3)}`;
    const n = counts.get(key) ?? 0;
    counts.set(key, n + 1);
    upstream.get(partition)!.push({ key, n });
  }
};

/** A run that waits, best one in the middle of a write: that is where most can go wrong. */
const pickRun = ({ scheduler, deadlines, pick, pickOf }: World): Waiting | undefined => {
  const runs = scheduler.waiting.filter(({ process }) => deadlines.has(process));
  const writing = runs.filter(({ name }) => /^(put|write|stage|rename|promote|object put)/.test(name));
  if (runs.length === 0) return undefined;
  return pickOf(writing.length > 0 && pick(4) > 0 ? writing : runs);
};

/** Somebody sleeps past the end of his lease, best in the middle of a write, and another comes to do his work. */
const overtake = async (world: World): Promise<void> => {
  const { scheduler, pipeline, pick } = world;
  // Who has no lease yet is overtaken without any time gone.
  if (pick(4) > 0) pipeline.clock.advance(leaseMs + 5_000);
  const sleeper = pickRun(world)?.process;
  if (sleeper === undefined) return;
  const [connector, task] = sleeper.name.split(/[# ]/);
  if (pick(2) === 0) produce(world, 1 + pick(5));
  await invoke(world, { connector: connector!, task: Number(task) });
  const other = [...scheduler.alive].at(-1)!;
  for (let steps = pick(60); steps > 0; steps--) {
    const next = scheduler.waiting.find(({ process }) => process === other && process !== sleeper);
    if (next === undefined) return;
    await (isTooLate(world, next) ? next.process.kill() : next.go());
  }
};

/** A trigger: one that was sent, out of order, sometimes lost, sometimes kept to come again; or one out of the blue. */
const trigger = async (world: World): Promise<void> => {
  const { pipeline, invocations, pick, pickOf } = world;
  const sent = invocations.length > 0 && pick(4) > 0 ? pickOf(invocations) : undefined;
  if (sent !== undefined && pick(4) > 0) invocations.splice(invocations.indexOf(sent), 1);
  const event = sent ?? { connector: pickOf(await pipeline.names()), task: pick(3) };
  if (pick(8) > 0) await invoke(world, event);
};

/** The stream's records reach the dispatcher: out of order, some never, some twice. */
const hear = async (world: World): Promise<void> => {
  const { pipeline, functions, changes, pick } = world;
  const from = pick(changes.length + 1);
  const batch = changes.slice(from, from + 1 + pick(4));
  if (pick(4) > 0) changes.splice(from, batch.length);
  if (pick(4) === 0) return;
  await start(world, 'dispatcher', (process) =>
    dispatch(faultyTable(pipeline.table, process), functions, batch, pipeline.clock.now()),
  );
};

const operate = async (world: World): Promise<void> => {
  const { pipeline, functions, pick, pickOf } = world;
  const name = pickOf([...pipeline.specs.keys()]);
  const what = pickOf(['pause', 'resume', 'stop', 'restart', 'tasks', 'queues', 'reset', 'extra'] as const);
  if (what === 'extra') return toggleExtra(world);
  if (what === 'reset') return resetSink(world);
  const change = what === 'tasks' ? { tasks: 1 + pick(3) } : what === 'queues' ? { queues: 1 + pick(4) } : {};
  return start(world, `operator ${what} ${name}`, (process) => {
    const table = faultyTable(pipeline.table, process);
    if (what === 'restart') return restartConnector(table, functions, name);
    if (what !== 'tasks' && what !== 'queues') return changeTarget(table, functions, name, what);
    const spec = pipeline.specs.get(name)!;
    const { tasks = spec.tasks, queues } = change;
    const to = queues === undefined ? spec.to : spec.to?.map((topic) => ({ ...topic, queues }));
    const changed = { ...spec, tasks, ...(to === undefined ? {} : { to }) };
    pipeline.specs.set(name, changed);
    return applyConnector(table, functions, changed, { nowMs: pipeline.clock.now() });
  });
};

/** An operator's order that moves where readers stand: what was kept before it may not be what they need. */
const order = (world: World, label: string, main: (table: Table) => Promise<unknown>): Promise<void> => {
  const { pipeline, orders } = world;
  pipeline.times.sweptMs = 0;
  return start(world, `operator ${label}`, (process) => {
    orders.push(process);
    return main(faultyTable(pipeline.table, process));
  });
};

/** A reader comes, or the one that came goes. */
const toggleExtra = async (world: World): Promise<void> => {
  const { pipeline, functions, counts } = world;
  const isThere = (await pipeline.names()).includes('extra');
  const nowMs = pipeline.clock.now();
  pipeline.comes(undefined);
  if (isThere) return order(world, 'remove extra', (table) => removeConnector(table, functions, 'extra', nowMs));
  const there = new Map(counts);
  const earlier = world.orders.length;
  return order(world, 'add extra', async (table) => {
    await applyConnector(table, functions, extraSpec(), { nowMs });
    if (world.orders.length === earlier + 1) pipeline.comes(there);
  });
};

/** All offsets of a reader of the log back to the beginning; what goes on meanwhile may prevent it. */
const resetSink = async (world: World): Promise<void> => {
  const { pipeline, functions, pickOf } = world;
  const sinks = [...pipeline.specs.values()].filter(({ kind }) => kind === 'sink');
  if (sinks.length === 0) return;
  const { name } = pickOf(sinks);
  pipeline.resets(name);
  return order(world, `reset ${name}`, async (table) => {
    await changeTarget(table, functions, name, 'stop');
    // The coordinator comes every minute: it has just been here.
    const sweptMs = pipeline.clock.now();
    await sweep(pipeline.table, functions, sweptMs, () => {});
    try {
      if (pipeline.isKept(sweptMs)) await resetOffsets(table, name, 'operator', pipeline.clock.now());
    } catch (thrown) {
      if (!isCode(thrown, 'STATE_CONFLICT')) throw thrown;
    }
    await changeTarget(table, functions, name, 'resume');
  });
};
