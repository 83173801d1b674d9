import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DynamoDBClient, PutItemCommand, ScanCommand } from '@aws-sdk/client-dynamodb';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type Chaos, type ChaosOptions, createChaos } from '../../../infra/local/chaos.ts';
import { startInstance } from '../../../infra/local/instance.ts';
import { until } from '../../kit/until.ts';
import { items, mapping, type RunningApp, run, sdk, temporaryDirectory } from './app.ts';

const nothing = { fault: 0, burst: 0, kill: 0, pause: 0, duplicate: 0, late: 0 };

const begun = (options: ChaosOptions): Chaos => {
  const chaos = createChaos(options);
  chaos.begin();
  return chaos;
};

/** Of those that do only this, one that does it soon: a test does not wait for more. */
const soon = (chances: Partial<typeof nothing>, isSoon: (chaos: Chaos) => boolean): ChaosOptions => {
  for (let seed = 0; ; seed++) {
    const options = { seed, chances: { ...nothing, ...chances } };
    if (isSoon(begun(options))) return options;
  }
};

const clientOf = ({ dynamodb }: RunningApp): DynamoDBClient => {
  const client = new DynamoDBClient({ endpoint: dynamodb.endpoint, region: 'us-east-1' });
  onTestFinished(() => client.destroy());
  return client;
};

describe('a seed', () => {
  const decisions = ({ seed }: { seed: number }) => {
    const chaos = begun({ seed });
    const many = Array.from({ length: 1_000 }, (_, n) => n);
    return {
      faults: many.map(() => chaos.faultOf('F')),
      troubles: many.map(() => chaos.troubleOf(5_000)),
      deliveries: many.map(() => chaos.deliveries()),
      some: chaos.some(many),
      summary: chaos.summary(),
    };
  };

  test('decides everything, and another one otherwise', () => {
    const one = decisions({ seed: 1 });
    const again = decisions({ seed: 1 });
    expect(again.troubles).toEqual(one.troubles);
    expect(again.deliveries).toEqual(one.deliveries);
    expect(again.some).toEqual(one.some);
    expect(decisions({ seed: 2 }).deliveries).not.toEqual(one.deliveries);
  });

  test('has something of everything', () => {
    const { faults, troubles, deliveries, some, summary } = decisions({ seed: 3 });
    expect(new Set(faults)).toEqual(new Set([undefined, 'throttled', 'failed', 'failedAfter', 'answerLost']));
    expect(troubles.some((trouble) => trouble && trouble.pauseMs === undefined)).toBe(true);
    // Its timeout, and the time after which a lease is believed to be over.
    expect(troubles.some((trouble) => trouble && (trouble.pauseMs ?? 0) > 20_000)).toBe(true);
    expect(deliveries.some((times) => times.length === 2)).toBe(true);
    expect(deliveries.some(([firstMs]) => firstMs! > 5_000)).toBe(true);
    expect(some.length).toBeGreaterThan(50);
    expect(some.toSorted((a, b) => a - b)).not.toEqual(some);
    expect(summary).toMatch(/^chaos with seed 3: \d+ answers lost, \d+ calls called failed, .*\d+ deliveries late/);
  });

  test('decides nothing before the app is deployed', () => {
    const chaos = createChaos({ seed: 1, chances: { fault: 1, kill: 1, duplicate: 1, late: 1 } });
    expect([chaos.faultOf('F'), chaos.troubleOf(5_000), chaos.deliveries()]).toEqual([undefined, undefined, [0]]);
    expect(chaos.summary()).toBe('chaos with seed 1: nothing went wrong');
  });
});

describe('events and batches of a stream', () => {
  const print =
    'export const handler = async (event) => console.log(JSON.stringify(event.Records?.map((r) => r.dynamodb.Keys.id.S) ?? event));';
  const soonDelivered = (chances: Partial<typeof nothing>) =>
    soon(chances, (chaos) =>
      Array.from({ length: 4 }, () => chaos.deliveries())
        .flat()
        .every((ms) => ms < 800),
    );

  test('come twice', async () => {
    const app = await run(
      { functions: { Reader: print }, resources: { ...items, Stream: mapping('Reader') } },
      { chaos: soonDelivered({ duplicate: 1 }) },
    );
    await app.invoke('App-Reader', { n: 1 }, 'Event');
    await app.idle();
    expect(app.lines('Reader')).toEqual(['{"n":1}', '{"n":1}']);
    await clientOf(app).send(new PutItemCommand({ TableName: 'App-Items', Item: { id: { S: 'a' } } }));
    await app.idle();
    expect(app.lines('Reader').slice(2)).toEqual(['["a"]', '["a"]']);
    expect(app.chaos()).toContain('2 deliveries doubled');
  });

  test('come late, and those after them do not wait', async () => {
    const options = soon({ late: 0.5 }, (chaos) => {
      const [[first = 0], [second = 0]] = [chaos.deliveries(), chaos.deliveries()] as [number[], number[]];
      return first > 1_500 && first < 3_000 && second === 0;
    });
    const app = await run(
      { functions: { Reader: print }, resources: { ...items, Stream: mapping('Reader') } },
      { chaos: options },
    );
    const client = clientOf(app);
    const put = (id: string) => client.send(new PutItemCommand({ TableName: 'App-Items', Item: { id: { S: id } } }));
    await put('first');
    // Read, and put off.
    await until(() => app.chaos()?.includes('deliveries late'));
    await put('second');
    await until(() => app.lines('Reader').length === 2);
    expect(app.lines('Reader')).toEqual(['["second"]', '["first"]']);
  });
});

describe('a process', () => {
  test('is killed in the middle, and its event is tried again', async () => {
    const chaos = soon({ kill: 0.5 }, (one) => {
      const [first, second] = [one.troubleOf(30_000), one.troubleOf(30_000)];
      return first !== undefined && first.afterMs < 600 && second === undefined;
    });
    const slow = `export const handler = async () => { console.log('begun'); await new Promise((r) => setTimeout(r, 2000)); console.log('done'); };`;
    const app = await run({ functions: { Slow: slow } }, { chaos });
    await app.invoke('App-Slow', {}, 'Event');
    await app.idle();
    expect(app.reports.map(({ error }) => error?.errorType)).toEqual(['Runtime.ExitError', undefined]);
    expect(app.lines('Slow').at(-1)).toBe('done');
    expect(app.chaos()).toContain('1 processes killed');
  });

  test('sleeps past its timeout and wakes up', async () => {
    const directory = await temporaryDirectory();
    await writeFile(
      join(directory, 'index.mjs'),
      `export const handler = async ({ untilSleptMs }, context) => {
        let sleptMs = 0;
        let atMs = Date.now();
        console.log('begun');
        while (sleptMs < untilSleptMs) {
          await new Promise((resolve) => setTimeout(resolve, 1));
          const nowMs = Date.now();
          sleptMs = nowMs - atMs;
          atMs = nowMs;
        }
        return [sleptMs, context.getRemainingTimeInMillis()];
      };`,
    );
    const lines: string[] = [];
    const instance = startInstance({
      environment: { LAMBDA_TASK_ROOT: directory, _HANDLER: 'index.handler' },
      codeDirectory: directory,
      timeoutMs: 2_000,
      memoryMb: 256,
      onLine: (line) => lines.push(line),
    });
    onTestFinished(() => instance.kill());
    const invoke = (requestId: string, untilSleptMs: number) => {
      const payload = JSON.stringify({ untilSleptMs });
      return instance.invoke({ requestId, payload, traceId: '', invokedFunctionArn: '' });
    };
    const outcome = invoke('1', 2_400);
    await until(() => lines.length > 0);
    instance.pause(2_500);
    const { payload, error } = await outcome;
    expect(error).toBeUndefined();
    expect(JSON.parse(payload)[1]).toBe(0);
    // What is left of its time counts on after a shorter sleep.
    const hung = invoke('2', 60_000);
    await until(() => lines.length > 1);
    instance.pause(100);
    expect((await hung).error?.errorType).toBe('Sandbox.Timedout');
  });

  test('that sleeps ends with its host, however that ends', async () => {
    const directory = await temporaryDirectory();
    await writeFile(
      join(directory, 'index.mjs'),
      'export const handler = async () => { console.log(process.pid); await new Promise(() => setInterval(() => {}, 1000)); };',
    );
    const instance = {
      environment: { LAMBDA_TASK_ROOT: directory, _HANDLER: 'index.handler' },
      codeDirectory: directory,
      timeoutMs: 60_000,
      memoryMb: 256,
    };
    const host = `
      import { startInstance } from '${new URL('../../../infra/local/instance.ts', import.meta.url)}';
      const instance = startInstance({ ...${JSON.stringify(instance)}, onLine: (line) => {
        console.log(line);
        instance.pause(60_000);
      } });
      void instance.invoke({ requestId: '1', payload: '{}', traceId: '', invokedFunctionArn: '' });`;
    const running = spawn(process.execPath, ['--input-type=module', '--eval', host], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [output] = await once(running.stdout, 'data');
    const pid = Number(String(output));
    const stateOf = async (): Promise<string | undefined> => {
      const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
      return stat?.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3);
    };
    await until(async () => (await stateOf()) === 'T');
    running.kill('SIGKILL');
    await until(async () => [undefined, 'Z'].includes(await stateOf()));
  });
});

describe('a call', () => {
  const outcomes = `
    const outcomes = {};
    const count = async (n, call) => {
      try {
        await call(n);
        outcomes[n] = 'allowed';
      } catch (error) {
        outcomes[n] = error.name + ' ' + error.message;
      }
    };`;

  test('to DynamoDB is refused, or fails, or its answer is lost: it was carried out or not at all', async () => {
    const code = `
      import { DynamoDBClient, PutItemCommand } from '${sdk('@aws-sdk/client-dynamodb')}';
      const client = new DynamoDBClient({ maxAttempts: 1 });
      ${outcomes}
      export const handler = async () => {
        for (let n = 0; n < 40; n++) await count(n, () => client.send(new PutItemCommand({ TableName: 'App-Items', Item: { id: { S: String(n) } } })));
        return outcomes;
      };`;
    const app = await run(
      { functions: { F: code }, resources: items },
      { chaos: { seed: 1, chances: { ...nothing, fault: 0.8 } } },
    );
    const { payload } = await app.call('F');
    const all = Object.entries(payload as Record<string, string>);
    const { Items = [] } = await clientOf(app).send(new ScanCommand({ TableName: 'App-Items' }));
    const stored = new Set(Items.map(({ id }) => id!.S));
    const of = (pattern: RegExp) => all.filter(([, outcome]) => pattern.test(outcome)).map(([n]) => n);
    expect(of(/^ThrottlingException chaos/).length).toBeGreaterThan(5);
    expect(of(/^ThrottlingException/).filter((n) => stored.has(n))).toEqual([]);
    const lost = of(/ECONNRESET|socket hang up|aborted/);
    expect(lost.length).toBeGreaterThan(1);
    expect([...lost, ...of(/allowed/)].filter((n) => !stored.has(n))).toEqual([]);
    const failed = of(/^InternalServerError chaos/);
    expect(new Set(failed.map((n) => stored.has(n)))).toEqual(new Set([true, false]));
    expect(all).toHaveLength(of(/^Throttling/).length + lost.length + failed.length + of(/allowed/).length);
  });

  test('to S3 likewise', async () => {
    const code = `
      ${outcomes}
      export const handler = async () => {
        const { AWS_ENDPOINT_URL_S3: endpoint, AWS_ACCESS_KEY_ID: key, BUCKET: bucket } = process.env;
        const headers = { authorization: 'AWS4-HMAC-SHA256 Credential=' + key + '/1/us-east-1/s3/aws4_request' };
        for (let n = 0; n < 40; n++)
          await count(n, async () => {
            const answer = await fetch(endpoint + '/' + bucket + '/' + n, { method: 'PUT', headers, body: 'x' });
            if (!answer.ok) throw new Error(await answer.text());
          });
        return outcomes;
      };`;
    const app = await run(
      {
        functions: { F: code },
        functionProperties: { F: { Environment: { Variables: { BUCKET: { Ref: 'Files' } } } } },
        resources: { Files: { Type: 'AWS::S3::Bucket' } },
      },
      { chaos: { seed: 1, chances: { ...nothing, fault: 0.8 } } },
    );
    const { payload } = await app.call('F');
    const all = Object.entries(payload as Record<string, string>);
    const stored = new Set(await readdir(join(app.stateDir, 's3', 'app-files')));
    const of = (pattern: RegExp) => all.filter(([, outcome]) => pattern.test(outcome)).map(([n]) => n);
    const refused = of(/SlowDown|InternalError/);
    expect(refused.length).toBeGreaterThan(5);
    expect(refused.filter((n) => stored.has(n))).toEqual([]);
    const lost = of(/fetch failed/);
    expect(lost.length).toBeGreaterThan(1);
    expect([...lost, ...of(/allowed/)].filter((n) => !stored.has(n))).toEqual([]);
    expect(all).toHaveLength(refused.length + lost.length + of(/allowed/).length);
  });
});

const timed = {
  Items: {
    ...items.Items,
    Properties: { ...items.Items.Properties, TimeToLiveSpecification: { AttributeName: 'expires', Enabled: true } },
  },
};

test('items that have expired are deleted, and no others', async () => {
  const app = await run({ resources: timed }, { chaos: { seed: 1, chances: nothing } });
  const client = clientOf(app);
  const nowSeconds = Math.floor(Date.now() / 1000);
  const put = (id: string, expires?: number) =>
    client.send(
      new PutItemCommand({
        TableName: 'App-Items',
        Item: { id: { S: id }, ...(expires === undefined ? {} : { expires: { N: String(expires) } }) },
      }),
    );
  for (let n = 0; n < 10; n++) await put(`old ${n}`, nowSeconds - 10);
  await put('young', nowSeconds + 600);
  await put('for ever');
  const ids = async () =>
    ((await client.send(new ScanCommand({ TableName: 'App-Items' }))).Items ?? []).map(({ id }) => id!.S!).sort();
  await until(async () => (await ids()).length === 2);
  expect(await ids()).toEqual(['for ever', 'young']);
  expect(app.chaos()).toContain('10 items expired');
});

test('what expired while this machine was off has five minutes, in which it may be given more time', async () => {
  const minuteMs = 200;
  const startedMs = Date.now();
  const client = clientOf(await run({ resources: timed }, { minuteMs }));
  const expires = { N: String(Math.floor(Date.now() / 1000) - 10) };
  await client.send(new PutItemCommand({ TableName: 'App-Items', Item: { id: { S: 'old' }, expires } }));
  const isThere = async () => ((await client.send(new ScanCommand({ TableName: 'App-Items' }))).Count ?? 0) === 1;
  await until(async () => !(await isThere()));
  expect(Date.now() - startedMs).toBeGreaterThanOrEqual(5 * minuteMs);
});
