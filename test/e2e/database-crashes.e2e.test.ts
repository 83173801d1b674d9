import { expect, test, vi } from 'vitest';
import type { Budget, Offsets } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { memoryObjects } from '../../shared/log/objects.ts';
import { defaultErrorPolicy } from '../../shared/state/connectors.ts';
import { memoryTable } from '../../shared/state/memory/table.ts';
import { type DatabaseServer, type System, useDatabases } from '../kit/database.ts';
import { captureTables, writeTables } from '../kit/database-tasks.ts';
import { type Fault, type FaultPlan, faultPlan } from '../kit/faults.ts';
import { historyOf, versionsInOrder } from '../kit/history.ts';
import { createWorld, manualClock, type WorldTask } from '../kit/world.ts';

/*
 * From a database to a database, directly: a process dies or sleeps at each put, in the middle of a snapshot, at the hand-over, within a
 * transaction of more changes than a batch, and between two changes with an ALTER TABLE between them. Batches are of five records.
 */

const pairs: readonly (readonly [from: System, to: System])[] = [
  ['mariadb', 'postgres'],
  ['mysql', 'mysql'],
  ['postgres', 'mariadb'],
];
const faults = ['crash before', 'crash after', 'lost answer', 'zombie'] as const satisfies readonly Fault[];

const server = useDatabases();

/** Each change gives a row of t a larger n. */
const tables = { t: 'id, n, added', u: 'id, word', v: 'id' };

const numbers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** Written when the first rows of t are read; then the run ends, and the next one reads the others in another view. */
const during = [
  'BEGIN; UPDATE t SET n = n + 1; DELETE FROM t WHERE id IN (2, 11); INSERT INTO t VALUES (0, 7); UPDATE t SET n = n + 1 WHERE id < 6; COMMIT',
  "BEGIN; UPDATE t SET id = 40 WHERE id = 1; UPDATE t SET id = -1 WHERE id = 12; UPDATE u SET word = concat(word, ' now'); COMMIT",
];
/** Written once all of that has arrived. */
const after = [
  `BEGIN; ${numbers(100, 108)
    .map((id) => `INSERT INTO t VALUES (${id}, 1)`)
    .join('; ')}; UPDATE u SET id = id + 100; DELETE FROM t WHERE id = 40; COMMIT`,
  'ALTER TABLE t ADD COLUMN added varchar(20)',
  "BEGIN; UPDATE t SET added = 'yes', n = n + 1 WHERE id > 103; INSERT INTO t (id, n, added) VALUES (40, 4, 'again'); COMMIT",
  'DELETE FROM t WHERE id = 105',
  // Two rows swap a unique value, and the fifth change is the last of its batch (hazard H11).
  `BEGIN; ${numbers(100, 103)
    .map((id) => `UPDATE t SET n = 5 WHERE id = ${id}`)
    .join('; ')}; UPDATE u SET word = NULL WHERE id = 101;
    UPDATE u SET word = 'a now' WHERE id = 102; UPDATE u SET word = 'b now' WHERE id = 101; COMMIT`,
];

let made = 0;

/** Runs it all with the faults of a plan, or none, and compares. `before`: what the source's session does before each statement. */
const schedule = async (
  from: DatabaseServer,
  to: DatabaseServer,
  plan: FaultPlan,
  { clock = manualClock(), before = (): string => '' } = {},
): Promise<FaultPlan & { readonly versions: ReadonlyMap<string, readonly number[]> }> => {
  const [source, copy] = [`from_${made}`, `to_${made++}`];
  const inSource = (sql: string) =>
    from.run(`${from.system === 'postgres' ? `SET search_path = ${source}` : `USE ${source}`}; ${before()} ${sql}`);
  await from.run(`CREATE SCHEMA ${source}`);
  await to.run(`CREATE SCHEMA ${copy}`);
  // The third table is the sink's to make.
  await to.run(`CREATE TABLE ${copy}.u (id int PRIMARY KEY, word varchar(20) UNIQUE);
    CREATE TABLE ${copy}.t (id int PRIMARY KEY, n int); ${historyOf(to.system, copy)}`);
  await inSource(`CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE u (id int PRIMARY KEY, word varchar(20));
    CREATE TABLE v (id int PRIMARY KEY); INSERT INTO v VALUES (1);
    INSERT INTO t VALUES ${numbers(1, 12)
      .map((id) => `(${id}, 0)`)
      .join()}; INSERT INTO u VALUES (1, 'a'), (2, 'b'), (3, 'c')`);
  const capture = captureTables(from, source, Object.keys(tables));
  let isBegun = false;
  let isCut = false;
  const task: WorldTask = {
    name: 'c',
    source() {
      const opened = capture.task();
      return {
        ...opened,
        async poll(offsets: Offsets<unknown>, budget: Budget) {
          if (isBegun && !isCut) {
            isCut = true;
            for (const statement of during) await inSource(statement);
            throw new ConnectError('UNAVAILABLE', 'the first run ends here', { retriable: true });
          }
          const poll = await opened.poll(offsets, budget);
          isBegun ||= poll.batch.count > 0;
          return poll;
        },
      };
    },
    sink: () => writeTables(to, copy),
  };
  // A put whose answer was lost is put again.
  const errors = { ...defaultErrorPolicy, retryTimeoutMs: 10_000 };
  const world = createWorld(memoryTable(), clock, memoryObjects(), errors);
  await world.drain(task, plan);
  for (const statement of after) await inSource(statement);
  await world.drain(task, plan);
  for (const [table, columns] of Object.entries(tables)) {
    const [expected, found] = [
      await from.rows(`SELECT ${columns} FROM ${source}.${table} ORDER BY id`),
      await to.rows(`SELECT ${columns} FROM ${copy}.${table} ORDER BY id`),
    ];
    expect(found, table).toEqual(expected);
  }
  const versions = await versionsInOrder(to, copy);
  await capture.forget();
  return { ...plan, versions };
};

test.each(pairs)(
  '%s to %s: whatever put a process dies or sleeps at, all rows are the same in the end',
  {
    timeout: 400_000,
  },
  async (from, to) => {
    const run = (fault: { at?: number; fault?: Fault }) => schedule(server(from), server(to), faultPlan(fault));
    const { names, versions } = await run({});
    // One row was read before its change, the other with it.
    expect([versions.get('5'), versions.get('6')]).toEqual([[0, 1, 2], [1]]);
    const puts = [...names.keys()].filter((at) => names[at] === 'put');
    expect(puts.length).toBeGreaterThan(10);
    // One at each; the next pair has another one there.
    const first = pairs.findIndex((pair) => pair[0] === from);
    for (const [i, at] of puts.entries()) {
      const fault = faults[(first + i) % faults.length]!;
      const plan = await run({ at, fault }).catch((cause: Error) => {
        throw new Error(`${fault} at put ${i} of ${puts.length}: ${cause.message}`, { cause });
      });
      expect(plan.fired()).toBe(true);
    }
  },
);

/** All of the source's sessions end at its server while it polls or acknowledges: each third time, in the next run one later. */
const cutting = (source: DatabaseServer): FaultPlan & { readonly cuts: readonly string[] } => {
  const names: string[] = [];
  const cuts: string[] = [];
  let runs = 0;
  const process = () => {
    let place = runs++;
    const op = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
      names.push(name);
      if ((name !== 'poll' && name !== 'source commit') || place++ % 3 !== 0) return call();
      cuts.push(name);
      const [result] = await Promise.allSettled([call(), cutSessions(source)]);
      if (result.status === 'rejected') throw result.reason;
      return result.value;
    };
    return { op, stopped: new Promise<never>(() => {}) };
  };
  return { names, cuts, process, wakeUp: () => {}, fired: () => cuts.length > 0 };
};

const cutSessions = async (source: DatabaseServer): Promise<void> => {
  if (source.system === 'postgres')
    return source.run(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'`);
  const sessions = await source.rows(
    "SELECT id FROM information_schema.processlist WHERE id <> connection_id() AND user = 'sluice'",
  );
  // One that has ended meanwhile is as good as cut.
  for (const [id] of sessions) await source.run(`KILL ${id}`).catch(() => {});
};

// Of two servers: the sink's sessions go on.
test.each<readonly [from: System, to: System]>([
  ['mariadb', 'postgres'],
  ['mysql', 'mariadb'],
  ['postgres', 'mysql'],
])(
  '%s to %s: whatever poll or acknowledgement the connections to the source are cut at, all rows are the same in the end',
  { timeout: 120_000 },
  async (from, to) => {
    const plan = cutting(server(from));
    await schedule(server(from), server(to), plan);
    expect(plan.cuts.length).toBeGreaterThanOrEqual(7);
    expect(plan.cuts).toContain('poll');
    expect(plan.cuts).toContain('source commit');
  },
);

test.each(pairs)(
  '%s to %s: whatever poll or acknowledgement a process dies or sleeps at, all rows are the same in the end',
  { timeout: 240_000 },
  async (from, to) => {
    const run = (fault: { at?: number; fault?: Fault }) => schedule(server(from), server(to), faultPlan(fault));
    const { names } = await run({});
    const places = [...names.keys()].filter((at) => names[at] === 'poll' || names[at] === 'source commit');
    // Each third one, with one fault; the other pairs have the others.
    const first = pairs.findIndex((pair) => pair[0] === from);
    for (let i = first; i < places.length; i += pairs.length) {
      const fault = faults[i % faults.length]!;
      const plan = await run({ at: places[i]!, fault }).catch((cause: Error) => {
        throw new Error(`${fault} at ${names[places[i]!]} ${i} of ${places.length}: ${cause.message}`, { cause });
      });
      expect(plan.fired()).toBe(true);
    }
  },
);

const hourMs = 3_600_000;

test.each(pairs)(
  '%s to %s: clocks of functions and of the source that jump by an hour, at any time, lose nothing and hold nothing up',
  { timeout: 120_000 },
  async (from, to) => {
    const clock = manualClock();
    let jumps = 0;
    let runs = 0;
    vi.useFakeTimers({ toFake: ['Date'] });
    const jump = () => {
      const ms = [hourMs, -hourMs, -hourMs, hourMs][jumps++ % 4]!;
      clock.advance(ms);
      vi.setSystemTime(Date.now() + ms);
    };
    const op = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
      if (/^(poll|put|more|source commit|write)/.test(name)) jump();
      return call();
    };
    const plan: FaultPlan = {
      names: [],
      wakeUp: () => {},
      fired: () => true,
      process() {
        runs++;
        return { op, stopped: new Promise<never>(() => {}) };
      },
    };
    // What a server that jumps writes into its log; SYSDATE() is the real time.
    const ofSession = () => `SET timestamp = UNIX_TIMESTAMP(SYSDATE()) + ${[3600, -3600, 0][jumps % 3]};`;
    try {
      await schedule(server(from), server(to), plan, {
        clock,
        ...(from === 'postgres' ? {} : { before: ofSession }),
      });
    } finally {
      vi.useRealTimers();
    }
    expect(jumps).toBeGreaterThan(40);
    // One whose lease is over by its clock stops, and the next one goes on at once.
    expect(runs).toBeLessThan(16);
  },
);
