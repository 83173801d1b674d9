import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { SendMessageCommand, SQSClient } from '@aws-sdk/client-sqs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Host, startHost } from '../../../infra/local/host.ts';
import { synthPipelines } from '../../../infra/synth.ts';
import { type S3, s3Client } from '../../../shared/s3/client.ts';
import { makeWorkplace, type Workplace } from '../../kit/sluice.ts';
import { until } from '../../kit/until.ts';

/** Every kind of trigger, as a pipeline file says it, from what happens to the records that its run copies. A minute takes a second here. */
const queueArn = 'arn:aws:sqs:us-east-1:000000000000:arrivals';
const kinds = {
  timed: 'every: 1m',
  dated: "cron: '* * * * ? *', timeZone: Europe/Berlin, window: 5m",
  objects: 'trigger: { s3: inbox, prefix: objects/, suffix: .jsonl }',
  messages: `trigger: { sqs: '${queueArn}' }`,
  steady: 'trigger: continuous, timeout: 5s',
  asked: 'trigger: manual',
} as const;
type Name = keyof typeof kinds;

const sources = Object.entries(kinds).map(
  ([name, trigger]) =>
    `  ${name}: { connector: file, ${trigger}, config: { path: 's3://inbox/${name}/', topic: ${name} } }`,
);
const pipeline = `name: on
sources:
${sources.join('\n')}
sinks:
  beside: { connector: file, from: [steady], trigger: continuous, timeout: 5s, config: { path: beside/ } }
  each: { connector: file, from: [timed], config: { path: out/ } }
  lake: { connector: file, from: [asked], trigger: { backlog: { bytes: 1KiB, atMost: 1h } }, config: { path: lake/ } }
`;

const credentials = { accessKeyId: 'local', secretAccessKey: 'local' };
const started: { place?: Workplace; host?: Host } = {};
let s3: S3;
const lines: string[] = [];
let sweeps = 0;

beforeAll(async () => {
  const place = await makeWorkplace();
  started.place = place;
  const assembly = await synthPipelines({
    files: [await place.file('on.yaml', pipeline)],
    outdir: place.path('cdk.out'),
  });
  const host = await startHost({
    assembly,
    stateDir: place.path('state'),
    fireAtStart: false,
    minuteMs: 1_000,
    onLog: (_, line) => lines.push(line),
    onInvocation: ({ functionName }) => {
      if (/Coordinator/.test(functionName)) sweeps++;
    },
  });
  started.host = host;
  s3 = s3Client({ endpoint: host.s3.endpoint, region: 'us-east-1', credentials });
});
afterAll(async () => {
  await started.host?.stop({ graceMs: 5_000 });
  await started.place?.[Symbol.asyncDispose]();
});

interface Run {
  readonly connector: string;
  readonly reason: string;
  readonly outcome: string;
  readonly records: number;
}

/** What the runs of a connector that copied something said of themselves. */
const runsOf = (name: Name | 'beside' | 'each' | 'lake'): readonly Run[] =>
  lines
    .flatMap((line) => (line.startsWith('{"level":"info","message":"run"') ? [JSON.parse(line) as Run] : []))
    .filter(({ connector, records }) => connector === `on-${name}` && records > 0);

const put = (name: Name, file: string, rows = 1): Promise<unknown> =>
  s3.put('inbox', `${name}/${file}.jsonl`, Buffer.from('{"n":1}\n'.repeat(rows)));

/** A whole sweep of the coordinator, begun after this. */
const untilSwept = async (): Promise<void> => {
  const seen = sweeps;
  await until(() => sweeps >= seen + 2, patiently);
};

const timeout = 120_000;
const patiently = { timeoutMs: 60_000 };
const reasonsOf = (name: Name | 'beside' | 'each' | 'lake') => runsOf(name).map(({ reason }) => reason);

test.each(['timed', 'dated'] as const)('%s: a schedule', { timeout }, async (name) => {
  await put(name, 'a');
  await until(() => runsOf(name).length === 1, patiently);
  await put(name, 'b');
  await until(() => runsOf(name).length === 2, patiently);
  expect(reasonsOf(name)).toEqual(['schedule', 'schedule']);
});

test('objects: an object that is written', { timeout }, async () => {
  await put('objects', 'a');
  await until(() => runsOf('objects').length === 1, patiently);
  expect(reasonsOf('objects')).toEqual(['s3']);
});

test('messages: a message, whatever it says', { timeout }, async () => {
  await put('messages', 'a');
  const client = new SQSClient({ endpoint: started.host!.sqs.endpoint, region: 'us-east-1', credentials });
  const [QueueUrl] = started.host!.sqs.urls.filter((url) => url.endsWith('/arrivals'));
  await client.send(new SendMessageCommand({ QueueUrl, MessageBody: 'anything' }));
  client.destroy();
  await until(() => runsOf('messages').length === 1, patiently);
  expect(reasonsOf('messages')).toEqual(['sqs']);
});

test('steady: a run to the end of its time is followed by the next, which its WAKE row starts', {
  timeout,
}, async () => {
  // Its schedule, which starts it where it was lost, may be first.
  for (let n = 0; !reasonsOf('steady').includes('wake'); n++) {
    await put('steady', String(n));
    await until(() => runsOf('steady').length > n, patiently);
  }
});

test('beside: a sink that looks for what its source has copied, and is woken by nothing else', {
  timeout,
}, async () => {
  const copied = (name: 'steady' | 'beside') => runsOf(name).reduce((sum, { records }) => sum + records, 0);
  await put('steady', 'last');
  await until(() => copied('beside') > 1 && copied('beside') === copied('steady'), patiently);
  expect(reasonsOf('beside')).not.toContain('data');
});

test('each: new data', { timeout }, async () => {
  const copied = () => runsOf('each').reduce((sum, { records }) => sum + records, 0);
  await until(() => copied() === 2, patiently);
  // The sweep, once a second here, may be first.
  for (let n = 3; !reasonsOf('each').includes('data'); n++) {
    await put('timed', String(n));
    await until(() => copied() === n, patiently);
  }
});

test('asked and lake: nothing but an operator, and a backlog that is large enough or has waited', {
  timeout,
}, async () => {
  const { name } = started.host!.functions.find(({ logicalId }) => /asked/i.test(logicalId))!;
  const ask = () => started.host!.invoke(name, { connector: 'on-asked', task: 0, reason: 'manual' });
  await put('asked', 'a');
  await untilSwept();
  expect(runsOf('asked')).toEqual([]);
  await ask();
  expect(reasonsOf('asked')).toEqual(['manual']);
  // The first that is there has waited since for ever.
  await until(() => runsOf('lake').length === 1, patiently);
  await put('asked', 'b');
  await ask();
  await untilSwept();
  expect(runsOf('lake')).toHaveLength(1);
  await put('asked', 'c', 500);
  await ask();
  await until(() => runsOf('lake').length === 2, patiently);
  expect(runsOf('lake')).toMatchObject([
    { reason: 'backlog', records: 1 },
    { reason: 'backlog', records: 501 },
  ]);
  expect(await readdir(join(started.place!.path('lake'), 'asked'))).toHaveLength(2);
});
