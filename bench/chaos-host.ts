/**
 * A host under chaos in a process of its own, for `bench/chaos.ts` to kill: node chaos-host.ts <pipeline file> <state directory> <seed>.
 * Says on standard output, a JSON line each, when it is up and what has gone wrong by now.
 */
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { startHost } from '../infra/local/host.ts';
import { synthPipelines } from '../infra/synth.ts';

const [file = '', stateDir = '', seed = ''] = process.argv.slice(2);

const log = createWriteStream(join(stateDir, 'host.log'), { flags: 'a' });

// Whoever started it is gone, however that happened.
process.stdin.resume().once('end', () => process.exit(1));

const host = await startHost({
  assembly: await synthPipelines({ files: [file], outdir: join(stateDir, 'cdk.out') }),
  stateDir,
  env: { SLUICE_POSTGRES_URL: process.env.SLUICE_POSTGRES_URL! },
  onLog: (functionName, line) => log.write(`${new Date().toISOString()} ${functionName} ${line}\n`),
  // Schedules and the coordinator come six times as often: more happens in an hour.
  minuteMs: 10_000,
  chaos: { seed: Number(seed) },
});
let told = '';
const tell = (): void => {
  const up = { dynamodbPid: host.dynamodb.pid, s3: host.s3.endpoint };
  const news = JSON.stringify({ up, chaos: host.chaos() });
  if (news !== told) process.stdout.write(`${news}\n`);
  told = news;
};
tell();
const timer = setInterval(tell, 250);

process.once('SIGTERM', async () => {
  clearInterval(timer);
  await host.stop({ graceMs: 1_000 });
  tell();
  process.stdin.destroy();
});
