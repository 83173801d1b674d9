import { afterAll, beforeAll, expect, test } from 'vitest';
import { clientAt, findTable } from '../../infra/cli/platform.ts';
import { startHost } from '../../infra/local/host.ts';
import { synthPipelines } from '../../infra/synth.ts';
import { dynamoTable } from '../../shared/state/dynamodb/table.ts';
import { readTask, restartTask } from '../../shared/state/lease.ts';
import { type DatabaseServer, startDatabase, useDatabases } from '../kit/database.ts';
import { makeWorkplace } from '../kit/sluice.ts';
import { until } from '../kit/until.ts';
import { copyPipeline, environmentOf } from '../kit/verify-pipeline.ts';
import { startWrongClock, type WrongClock } from '../kit/wrong-clock.ts';

/* Whole processes, of functions and of a server of PostgreSQL, whose clock is set by hours all the time. */

const timeout = 300_000;
const hour = 3_600;
const steps = [hour, 0, -hour, hour, -hour, 0];

const right = useDatabases(['mariadb']);
let clock: WrongClock;
let wrong: DatabaseServer;
beforeAll(async () => {
  clock = await startWrongClock();
  wrong = await startDatabase('postgres', clock.env);
}, timeout);
afterAll(async () => {
  await wrong?.stop();
  await clock?.[Symbol.asyncDispose]();
});

/** A host that runs each task twice a second, by the wrong clock. */
const startWrongHost = async (file: string, directory: string, env: Record<string, string>) => {
  let runs = 0;
  const host = await startHost({
    assembly: await synthPipelines({ files: [file], outdir: `${directory}/cdk.out` }),
    stateDir: `${directory}/state`,
    env: { ...env, ...clock.env },
    minuteMs: 500,
    onLog: () => {},
    onInvocation: () => void runs++,
  });
  const client = clientAt(host.dynamodb.endpoint);
  const table = dynamoTable({ client, tableName: await findTable(client) });
  return {
    runs: () => runs,
    /** When its last run ended, as its function sees it. */
    endedAt: async (connector: string) => (await readTask(table, connector, 0)).lastRunAtMs,
    /** What failed while the clocks were wrong goes on, and need not wait its minutes. */
    restart: (connector: string) => restartTask(table, connector, 0, true),
    async [Symbol.asyncDispose]() {
      client.destroy();
      await host.stop();
    },
  };
};

test.each([
  ['mariadb', 'postgres', 'the log'],
  ['postgres', 'mariadb', 'the log'],
  ['mariadb', 'postgres', 'direct'],
  ['postgres', 'mariadb', 'direct'],
] as const)('from %s to %s through %s everything arrives once the clocks are right', { timeout }, async (...pair) => {
  const [from, , through] = pair;
  const servers = [right('mariadb'), wrong];
  const [source_, sink_] = from === 'postgres' ? servers.toReversed() : servers;
  const name = pair.join('_').replace(' ', '_');
  await clock.set(0);
  await using source = await source_!.database(`${name}_s`);
  await using sink = await sink_!.database(`${name}_d`);
  await source.run('CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (0, 0)');
  await using place = await makeWorkplace();
  const file = await place.file('p.yaml', copyPipeline(source, sink, ['t'], through));
  await using host = await startWrongHost(file, place.directory, environmentOf(source, sink));

  const connectors = through === 'direct' ? ['p-copy'] : ['p-to', 'p-from'];
  const endedAtMs: number[] = [];
  let jumps = 0;
  const jump = async () => {
    const seconds = steps[jumps++ % steps.length]!;
    await clock.set(seconds);
    const [[server]] = (await wrong.rows('SELECT extract(epoch FROM clock_timestamp())')) as [[string]];
    expect(Math.abs(Number(server) - Date.now() / 1000 - seconds)).toBeLessThan(hour / 2);
  };
  for (let round = 1; round <= 12; round++) {
    await source.run(`UPDATE t SET n = ${round} WHERE id % 3 = ${round % 3}; INSERT INTO t VALUES (${round}, 0)`);
    const runs = host.runs();
    await until(() => jump().then(() => host.runs() >= runs + 2), { timeoutMs: 60_000 });
    endedAtMs.push((await host.endedAt(connectors[0]!)) ?? Date.now());
  }
  expect(endedAtMs.some((ms) => Math.abs(ms - Date.now()) > (hour / 2) * 1000)).toBe(true);

  await clock.set(0);
  const expected = await source.rows('SELECT id, n FROM t ORDER BY id');
  const copied = () => sink.rows('SELECT id, n FROM t ORDER BY id').catch(() => []);
  const isEqual = async () => {
    for (const connector of connectors) await host.restart(connector);
    return JSON.stringify(await copied()) === JSON.stringify(expected);
  };
  await until(isEqual, { timeoutMs: 120_000 });
});
