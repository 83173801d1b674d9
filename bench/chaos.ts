/**
 * A pipeline under chaos: `npx node bench/chaos.ts [minutes] [seed]`. Files grow, objects appear; they go through the log into two
 * tables of PostgreSQL, Parquet objects behind a processor, and files. Meanwhile the local host makes everything go wrong that may go
 * wrong on AWS, operators pause, stop, restart, rewind and deploy other numbers of tasks and queues, and somebody kills the host, its
 * DynamoDB and PostgreSQL. At the end every row has to be everywhere once, whole, in the order of its key, nothing in the dead letters, and
 * no task FAILED for a reason that a retry could not mend. Exits with 1 otherwise, and keeps the state directory.
 */
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { stringify } from 'yaml';
import { localAccess, type OpenPlatform, openPlatform } from '../infra/cli/platform.ts';
import { runPostgres } from '../infra/local/embedded-postgres.ts';
import { isCode, toConnectError } from '../shared/connect/errors.ts';
import { resetOffsets } from '../shared/management/offsets.ts';
import { readStates } from '../shared/management/status.ts';
import { changeTarget, restartConnector } from '../shared/management/tasks.ts';
import { s3Client } from '../shared/s3/client.ts';
import { type Checked, checkEvery, checkFiles, checkLatest, checkStates } from './chaos-check.ts';
import { connectors, pipelineOf } from './chaos-pipeline.ts';
import { createHostProcess } from './chaos-process.ts';
import { createRandom } from './chaos-random.ts';
import { createSource } from './chaos-source.ts';

const minutes = Number(process.argv[2] ?? 3);
const seed = Number(process.argv[3] ?? Date.now() % 1_000_000);
const random = createRandom(seed);

const directory = await mkdtemp(join(tmpdir(), 'sluice-chaos-'));
// PostgreSQL runs as another user where this runs as root.
await chmod(directory, 0o755);
const stateDir = join(directory, 'state');
const pipelineFile = join(directory, 'pipeline.yaml');
for (const path of ['in', 'lines', 'state/s3/inbox', 'state/s3/lake'])
  await mkdir(join(directory, path), { recursive: true });
const postgres = await runPostgres({ directory: join(directory, 'postgres'), settings: ['fsync=off'] });
const env = { ...process.env, SLUICE_POSTGRES_URL: postgres.url };

const counts = new Map<string, number>();
const count = (what: string, times = 1): void => void counts.set(what, (counts.get(what) ?? 0) + times);
const problems: string[] = [];
const violated = (problem: string): void => {
  problems.push(problem);
  console.log(`${new Date().toISOString()} VIOLATION ${problem}`);
};

// --- what operators and misfortune do, one thing at a time

const deployOther = (): Promise<void> => writeFile(pipelineFile, stringify(pipelineOf(random)));

const host = createHostProcess({
  args: () => [pipelineFile, stateDir, String(random.integer(0, 1e9))],
  env,
  onChaos: count,
});

const withPlatform = async <T>(work: (platform: OpenPlatform) => Promise<T>): Promise<T> => {
  const platform = await openPlatform({ state: stateDir });
  try {
    return await work(platform);
  } finally {
    await platform.close();
  }
};

const change = (name: string, verb: 'pause' | 'stop' | 'resume') =>
  withPlatform(({ table, functions }) => changeTarget(table, functions, name, verb));

const later: { readonly atMs: number; readonly work: () => Promise<unknown> }[] = [];

const suspend = async (name: string, verb: 'pause' | 'stop', shortestMs: number, longestMs: number): Promise<void> => {
  await change(name, verb);
  later.push({ atMs: Date.now() + random.integer(shortestMs, longestMs), work: () => change(name, 'resume') });
};

const deploy = async (signal: 'SIGTERM' | 'SIGKILL'): Promise<void> => {
  await host.end(signal);
  await deployOther();
  await host.startUp();
};

const rewind = async (): Promise<void> => {
  await change('c-latest', 'stop');
  const work = async () => {
    try {
      await withPlatform(({ table }) => resetOffsets(table, 'c-latest', 'chaos', Date.now()));
    } catch (thrown) {
      if (!isCode(thrown, 'STATE_CONFLICT')) throw thrown;
      // Its last run is still under way.
      later.push({ atMs: Date.now() + 2_000, work });
      return;
    }
    await change('c-latest', 'resume');
  };
  later.push({ atMs: Date.now() + 1_000, work });
};

const endSessions = async (): Promise<void> => {
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  try {
    await client.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = $1',
      ['client backend'],
    );
  } finally {
    await client.end();
  }
};

const doubleRuns = (): Promise<void> =>
  withPlatform(async ({ table, functions }) => {
    const states = await readStates(table, Date.now());
    const { row } = random.pick(states);
    const event = { connector: row.name, task: random.integer(0, row.tasks - 1), reason: 'manual' as const };
    for (let n = 0; n < 3; n++) await functions.event(row.functionName, event);
  });

/** With how often each comes. */
const actions: readonly (readonly [what: string, weight: number, act: () => Promise<unknown>])[] = [
  ['connectors paused and resumed', 14, () => suspend(random.pick(connectors), 'pause', 500, 20_000)],
  ['connectors stopped and resumed', 8, () => suspend(random.pick(connectors), 'stop', 500, 20_000)],
  [
    'connectors restarted',
    10,
    () => withPlatform(({ table, functions }) => restartConnector(table, functions, random.pick(connectors))),
  ],
  ['tasks started three times at once', 14, doubleRuns],
  ['deploys with other tasks and queues', 3, () => deploy('SIGTERM')],
  ['hosts killed and deployed anew', 1, () => deploy('SIGKILL')],
  [
    'hosts killed',
    3,
    async () => {
      await host.end('SIGKILL');
      await host.startUp();
    },
  ],
  [
    'starting hosts killed',
    1,
    async () => {
      await host.end('SIGKILL');
      const starting = host.start();
      await delay(random.integer(500, 6_000));
      await host.end('SIGKILL');
      await starting;
      await host.startUp();
    },
  ],
  ['DynamoDBs killed', 4, async () => host.up && process.kill(host.up.dynamodbPid, 'SIGKILL')],
  ['PostgreSQLs killed', 5, () => postgres.restart()],
  ['all sessions of PostgreSQL ended', 7, endSessions],
  ['rewinds', 2, rewind],
];

const attempt = async (what: string, act: () => Promise<unknown>): Promise<boolean> => {
  try {
    await act();
    count(what);
    return true;
  } catch (thrown) {
    const error = toConnectError(thrown);
    // An operator is refused while what he asks is down.
    if (!error.retriable && !isMomentary(thrown)) violated(`${what}: ${error.message}`);
    count(`refused: ${what}`);
    return false;
  }
};

const isMomentary = (thrown: unknown): boolean =>
  thrown instanceof Error &&
  /ECONNREFUSED|ECONNRESET|ESRCH|socket hang up|57P0|terminat|chaos:/.test(
    `${thrown.message} ${(thrown as { code?: string }).code}`,
  );

const weights = actions.flatMap((action) => Array.from({ length: action[1] }, () => action));

/** Tasks that failed, once each time: by what. */
const failures = new Map<string, number>();
const seen = new Map<string, number>();
const lookForFailures = (): Promise<void> =>
  withPlatform(async ({ table, functions }) => {
    for (const { row, tasks } of await readStates(table, Date.now()))
      for (const {
        task,
        state,
        row: { trace = '', retriable, failures: times, runs },
      } of tasks) {
        const id = `${row.name}#${task}`;
        if (state !== 'FAILED' || seen.get(id) === runs) continue;
        seen.set(id, runs);
        const code = trace.replace(/:.*/s, '');
        failures.set(code, (failures.get(code) ?? 0) + 1);
        if (retriable === true) continue;
        violated(`${row.name} task ${task} FAILED (${times}): ${trace}`);
        await restartConnector(table, functions, row.name);
      }
  });

// --- the run

const source = createSource(join(directory, 'in'), random);

/** Until it is there: a host that does not answer did not take it, or did and could not say so. */
const putObject = async (): Promise<void> => {
  const { key, content } = source.object();
  for (;;) {
    try {
      while (host.up === undefined) await delay(50);
      await s3Client({ ...localAccess, endpoint: host.up.s3 }).put('inbox', key, Buffer.from(content));
      return;
    } catch {
      await delay(200);
    }
  }
};

const setUpTable = async (): Promise<void> => {
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  await client.query('CREATE TABLE every (id text, n int, text text, arrived bigserial)');
  await client.end();
};

const bring = async (untilMs: number): Promise<void> => {
  const growing = async () => {
    while (Date.now() < untilMs) {
      await source.grow();
      await delay(random.integer(50, 500));
    }
  };
  const arriving = async () => {
    while (Date.now() < untilMs) {
      await putObject();
      await delay(random.integer(500, 8_000));
    }
  };
  await Promise.all([growing(), arriving()]);
  await source.finish();
};

const progressMs = 5 * 60_000;

const operate = async (untilMs: number): Promise<void> => {
  let toldMs = Date.now();
  while (Date.now() < untilMs) {
    if (Date.now() - toldMs >= progressMs) {
      toldMs += progressMs;
      console.log(`${new Date().toISOString()} ${source.counts().rows} rows made`);
    }
    await delay(random.integer(200, 3_000));
    if (host.up === undefined) await host.startUp();
    for (const due of later.filter(({ atMs }) => atMs <= Date.now())) {
      later.splice(later.indexOf(due), 1);
      if (!(await attempt('orders carried out later', due.work))) later.push(due);
    }
    const [what, , act] = random.pick(weights);
    await attempt(what, act);
    if (host.up !== undefined) await attempt('looks at all states', lookForFailures);
  }
};

const sluice = async (...args: readonly string[]): Promise<{ readonly ok: boolean; readonly text: string }> => {
  const program = join(import.meta.dirname, '../infra/cli/sluice.js');
  const command = [program, 'run', pipelineFile, '--state', stateDir, ...args];
  return new Promise((resolve) => {
    execFile(process.execPath, command, { env, maxBuffer: 1 << 26, timeout: 900_000 }, (error, stdout, stderr) =>
      resolve({ ok: error === null, text: `${stdout}${stderr}` }),
    );
  });
};

/** What a user does then: everything on again, and a run to the end; under chaos first. */
const drain = async (): Promise<void> => {
  await host.end('SIGTERM');
  for (const name of connectors) await change(name, 'resume');
  const chaotic = await sluice('--chaos', String(seed));
  if (!chaotic.ok) violated(`sluice run --chaos ${seed}: ${chaotic.text}`);
  const calm = await sluice('--json');
  const { result } = JSON.parse(calm.text.trim().split('\n').at(-1)!);
  const moved = result?.connectors?.filter(({ records }: { records: number }) => records > 0);
  if (!calm.ok || moved?.length > 0) violated(`after it, a run without chaos found work left: ${calm.text}`);
};

const told = (checks: Readonly<Record<string, Checked>>): void => {
  const { rows, keys, files, objects } = source.counts();
  console.log(`\nmade: ${rows} rows of ${keys} keys, in ${files} files that grew and ${objects} objects`);
  for (const [name, { rows: arrived, problems: wrong }] of Object.entries(checks))
    console.log(`${name}: ${arrived} rows, ${wrong.length === 0 ? 'verified' : `${wrong.length} WRONG`}`);
  console.log('\ndisturbances:');
  for (const [what, times] of [...counts].sort()) console.log(`  ${times} ${what}`);
  const failed = [...failures].map(([code, times]) => `${times} ${code}`).join(', ');
  console.log(`tasks that were FAILED until a restart: ${failed || 'none'}`);
};

console.log(`${minutes} minutes of chaos with seed ${seed}, in ${directory}`);
const untilMs = Date.now() + minutes * 60_000;
try {
  await setUpTable();
  await deployOther();
  await host.startUp();
  await Promise.all([bring(untilMs), operate(untilMs)]);
  await drain();
  const checks = {
    'PostgreSQL, last row of each key': await checkLatest(postgres.url, 'latest', source.made),
    'PostgreSQL, every row': await checkEvery(postgres.url, 'every', source.made),
    'Parquet behind the processor': await checkFiles(join(stateDir, 's3/lake/copied'), source.made),
    'files of JSON lines': await checkFiles(join(directory, 'lines/rows'), source.made),
  };
  for (const check of Object.values(checks)) problems.push(...check.problems);
  problems.push(...(await withPlatform(({ table }) => checkStates(table))));
  told(checks);
} finally {
  await host.end('SIGKILL');
  await postgres.stop();
}
if (problems.length === 0) await rm(directory, { recursive: true, force: true });
else
  console.log(
    `\n${problems.length} violations, seed ${seed}, kept in ${directory}:\n${problems.slice(0, 30).join('\n')}`,
  );
console.log(problems.length === 0 ? '\nno violation' : '');
process.exitCode = problems.length === 0 ? 0 : 1;
