import { appendFile, readdir, readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type PostgresServer, startPostgres } from '../kit/postgres-server.ts';
import { countsOf, difference, jsonLinesOf, queryRows, same } from '../kit/rows.ts';
import { type Seeded, seeded } from '../kit/seed.ts';
import {
  commandOf,
  type Ended,
  envelopeOf,
  killIfThere,
  makeWorkplace,
  messageOf,
  type Running,
  type Workplace,
} from '../kit/sluice.ts';
import { until } from '../kit/until.ts';

const timeout = 400_000;
const keys = 1_000;
const rowCount = 100_000;

/** Row n updates key n mod 1000: 100 versions of each key, all over the file. */
const rows = Array.from({ length: rowCount }, (_, n) => ({ id: `k${n % keys}`, n }));

const pipelineOf = ({ queues = 4, tasks = 1, upsertTasks = 2, maxRecords = 4_000 } = {}) => `name: p
topics:
  rows: { queues: ${queues} }
sources:
  rows:
    connector: file
    every: 1m
    timeout: 5s
    maxRecords: ${maxRecords}
    config: { path: rows.jsonl, topic: rows, keyFields: [id], fields: { id: string, n: int32 } }
sinks:
  upsert:
    connector: postgres
    from: [rows]
    timeout: 5s
    tasks: ${upsertTasks}
    maxRecords: ${maxRecords}
    config: { url: '\${env:SLUICE_POSTGRES_URL}', table: latest }
  insert:
    connector: postgres
    from: [rows]
    timeout: 5s
    tasks: ${tasks}
    maxRecords: ${maxRecords}
    config: { url: '\${env:SLUICE_POSTGRES_URL}', table: every, mode: insert }
  files:
    connector: file
    from: [rows]
    timeout: 5s
    tasks: ${tasks}
    maxRecords: ${maxRecords}
    config: { path: out }
`;

let postgres: PostgresServer;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres?.stop());

const makePipeline = async (): Promise<Workplace> => {
  await queryRows(postgres.url, 'drop table if exists latest, every, sluice_offsets');
  const place = await makeWorkplace();
  await place.file('rows.jsonl', rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  await place.file('p.yaml', pipelineOf());
  return place;
};

const start = (place: Workplace): Running => place.start(['run', 'p.yaml'], { SLUICE_POSTGRES_URL: postgres.url });

/** Segments of the log and files of the sink, staged ones too: each that comes is a step of somebody. */
const stepsOf = async (place: Workplace): Promise<number> => {
  const lists = await Promise.all(
    ['state/s3', 'out'].map((name) => readdir(place.path(name), { recursive: true }).catch(() => [])),
  );
  return lists.flat().length;
};

/** Waits for some steps more; false where the run ended before. */
const untilSteps = async (place: Workplace, running: Running, more: number): Promise<boolean> => {
  let ended: Ended | undefined;
  void running.ended.then((one) => {
    ended = one;
  });
  const goal = (await stepsOf(place)) + more;
  // Where the machine is busy, a function dies of its five seconds more than once, and its lease lasts fifteen more.
  await until(async () => ended !== undefined || (await stepsOf(place)) >= goal, { timeoutMs: 180_000 });
  return ended === undefined;
};

/** Processes of functions that run now, of the connectors with the name in theirs. */
const functionsOf = async (place: Workplace, connector = ''): Promise<readonly number[]> => {
  const found = await Promise.all(
    place.processes().map(async (pid) => {
      const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
      const name = /AWS_LAMBDA_FUNCTION_NAME=(\S*?)\0/.exec(environment)?.[1];
      return name?.includes(`Sluice-p${connector}`) ? [pid] : [];
    }),
  );
  return found.flat();
};

const databaseOf = (place: Workplace): number | undefined =>
  place.processes().find((pid) => /^\S*dynoxide /.test(commandOf(pid)));

const drain = async (place: Workplace): Promise<void> => {
  // What was killed with its function or its database may have failed: one run restarts it.
  for (let run = 0; run < 3; run++) if ((await start(place).ended).code === 0) return;
  const last = await start(place).ended;
  expect(last.code, messageOf(last)).toBe(0);
};

const check = async (place: Workplace): Promise<void> => {
  const expected = countsOf(rows.map(({ id, n }) => [id, String(n)]));
  expect(difference(countsOf(await queryRows(postgres.url, 'select id, n from every')), expected)).toEqual(same);
  const latest = countsOf(rows.slice(-keys).map(({ id, n }) => [id, String(n)]));
  expect(difference(countsOf(await queryRows(postgres.url, 'select id, n from latest')), latest)).toEqual(same);
  const written = (await jsonLinesOf(place.path('out/rows'))) as typeof rows;
  expect(difference(countsOf(written.map(({ id, n }) => [id, String(n)])), expected)).toEqual(same);
  const last = new Map<string, number>();
  const disordered = written.filter(({ id, n }) => {
    const before = last.get(id) ?? -1;
    last.set(id, n);
    return n < before;
  });
  expect(disordered.slice(0, 5), 'each key in order, files in the order of their names').toEqual([]);
  await until(() => place.processes().length === 0);
};

type Fault = (place: Workplace, random: Seeded) => Promise<void>;

const killFunction: Fault = async (place, random) => {
  const pid = random.pick(await functionsOf(place));
  if (pid !== undefined) killIfThere(pid);
};
/** The host ends it at its timeout; until then its lease is held by a process that does nothing. */
const stopFunction: Fault = async (place, random) => {
  const pid = random.pick(await functionsOf(place));
  if (pid !== undefined) killIfThere(pid, 'SIGSTOP');
};
const killDynamodb: Fault = async (place) => {
  const pid = databaseOf(place);
  if (pid !== undefined) killIfThere(pid);
};
const restartPostgres: Fault = async () => {
  await postgres.kill9();
  await postgres.restart();
};

describe('whatever is killed, every row arrives once and in the order of its key', () => {
  test('functions, DynamoDB and PostgreSQL, while the host lives', { timeout }, async () => {
    await using place = await makePipeline();
    const random = seeded('kills');
    const faults = [
      killFunction,
      killFunction,
      stopFunction,
      killDynamodb,
      killFunction,
      restartPostgres,
      killFunction,
    ];
    let done = 0;
    for (let run = 0; run < 3 && done < faults.length; run++) {
      const running = start(place);
      while (done < faults.length && (await untilSteps(place, running, random.integer(1, 5))))
        await faults[done++]!(place, random);
      messageOf(await running.ended);
    }
    expect(done, 'every fault was there while the pipeline ran').toBe(faults.length);
    await drain(place);
    await check(place);
  });

  test('the host, while a function sleeps that then wakes up beside its successor', { timeout }, async () => {
    await using place = await makePipeline();
    const random = seeded('zombie');
    const first = start(place);
    const connector = random.pick(['upsert', 'insert', 'files'])!;
    // As soon as it is there, so that it sleeps at its start, or under its lease.
    const zombie = await until(async () => (await functionsOf(place, connector))[0], { timeoutMs: 90_000 });
    const started = await untilSteps(place, first, random.integer(1, 4));
    expect(started).toBe(true);
    killIfThere(zombie, 'SIGSTOP');
    first.kill('SIGKILL');
    await first.ended;
    await until(() => place.processes().every((pid) => pid === zombie));
    const second = start(place);
    await untilSteps(place, second, 1);
    killIfThere(zombie, 'SIGCONT');
    messageOf(await second.ended);
    await drain(place);
    await check(place);
  });

  test('2 tasks on 4 queues, 3 on 8, then 1, each change over a backlog and the dead of the set before (H5)', {
    timeout,
  }, async () => {
    await using place = await makePipeline();
    const random = seeded('task sets');
    const sets = [
      { queues: 4, tasks: 2 },
      { queues: 8, tasks: 3 },
      { queues: 8, tasks: 1 },
    ];
    for (const { queues, tasks } of sets) {
      await place.file('p.yaml', pipelineOf({ queues, tasks, upsertTasks: tasks, maxRecords: 1_000 }));
      const running = start(place);
      // The sets before the last one are cut off in the middle, their functions too.
      if (tasks === 1) messageOf(await running.ended);
      else {
        expect(await untilSteps(place, running, random.integer(3, 8)), `no work was left: ${running.output()}`).toBe(
          true,
        );
        running.kill(random.pick(['SIGKILL', 'SIGINT'])!);
        await running.ended;
        await until(() => place.processes().length === 0);
      }
    }
    await drain(place);
    await check(place);
    const connectors = envelopeOf(await place.sluice(['status', '--json'])).result as { tasks: unknown[] }[];
    expect(connectors.map(({ tasks }) => tasks.length)).toEqual([1, 1, 1, 1]);
  });

  test('a key whose queue has fewer commits than another', { timeout }, async () => {
    await using place = await makePipeline();
    await place.file(
      'p.yaml',
      `name: p
topics: { rows: { queues: 4 } }
sources:
  rows: { connector: file, every: 1m, config: { path: rows.jsonl, follow: true, keyFields: [id], fields: { id: string, n: int32 } } }
sinks:
  files: { connector: file, from: [rows], maxRecords: 10, config: { path: out } }
`,
    );
    const busy = (n: number) => `{"id":"busy","n":${n}}\n`;
    const quiet = (n: number) => `{"id":"quiet","n":${n}}\n`;
    const parts = [Array.from({ length: 50 }, (_, n) => busy(n)).join(''), busy(50) + quiet(0), quiet(1)];
    await place.file('rows.jsonl', '');
    for (const part of parts) {
      await appendFile(place.path('rows.jsonl'), part);
      const ended = await start(place).ended;
      expect(ended.code, messageOf(ended)).toBe(0);
    }
    const written = (await jsonLinesOf(place.path('out/rows'))) as typeof rows;
    expect(written.filter(({ id }) => id === 'quiet').map(({ n }) => n)).toEqual([0, 1]);
    expect(written.filter(({ id }) => id === 'busy').map(({ n }) => n)).toEqual(
      Array.from({ length: 51 }, (_, n) => n),
    );
  });
});
