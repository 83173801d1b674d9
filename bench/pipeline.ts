import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { drain } from '../infra/cli/drain.ts';
import { clientAt, findTable, lambdaAt } from '../infra/cli/platform.ts';
import { startHost } from '../infra/local/host.ts';
import { synthPipelines } from '../infra/synth.ts';
import { lambdaInvoker } from '../shared/lambda/invoke.ts';
import { requireConnector } from '../shared/state/connectors.ts';
import { dynamoTable } from '../shared/state/dynamodb/table.ts';
import { endedProcessesCpu, functionsCpu } from './processes.ts';

export interface Measured {
  /** From the invocation of the source, right after the deployment, until all is drained. */
  readonly seconds: number;
  /** CPU seconds of the embedded DynamoDB and of all processes of the source and the sink, from their start on: what they did for the deployment is in it. */
  readonly cpuSeconds: number;
  /** Of the functions of the platform: the dispatcher, and the one that deploys. */
  readonly platformCpuSeconds: number;
  /** CPU seconds of the local host, which is what Lambda, S3 and the streams are on AWS, and of looking whether all is drained. */
  readonly hostCpuSeconds: number;
  /** By node: the largest resident set of any instance, in MB. */
  readonly rssMb: Readonly<Record<string, number>>;
}

/**
 * Runs a pipeline of one source, which only starts when it is invoked, and its sinks until it is drained, on a fresh local host; throws what
 * failed. `after` may go on with the functions before they are stopped.
 */
export const measurePipeline = async (
  work: string,
  pipeline: object,
  env: Readonly<Record<string, string>> = {},
  after: (invoke: (node: string) => Promise<void>) => Promise<void> = async () => {},
): Promise<Measured> => {
  const directory = await mkdtemp(join(work, 'run-'));
  const file = join(directory, 'pipeline.yaml');
  await writeFile(file, stringify({ name: 'bench', ...pipeline }));
  const rssMb: Record<string, number> = {};
  let hostStart = process.cpuUsage();
  const endedBefore = endedProcessesCpu();
  const host = await startHost({
    assembly: await synthPipelines({ files: [file], outdir: join(directory, 'cdk.out') }),
    stateDir: join(directory, 'state'),
    env: { ...env, SLUICE_DRAIN: '1' },
    fireAtStart: false,
    onLog: (name, line) => {
      if (!line.startsWith('{') || JSON.parse(line).level === 'error') process.stderr.write(`${name}: ${line}\n`);
    },
    onInvocation: ({ functionName, maxRssMb }) => {
      const node = /^Sluice-bench(\w+)Function/.exec(functionName)?.[1];
      if (node !== undefined) rssMb[node] = Math.max(rssMb[node] ?? 0, Math.round(maxRssMb));
    },
    beforeFunctions: async () => {
      hostStart = process.cpuUsage();
    },
  });
  const client = clientAt(host.dynamodb.endpoint);
  const lambda = lambdaAt(host.lambdaEndpoint);
  try {
    const table = dynamoTable({ client, tableName: await findTable(client) });
    const startMs = performance.now();
    const { failed } = await drain(table, lambdaInvoker(lambda), new AbortController().signal, () => {});
    const seconds = (performance.now() - startMs) / 1000;
    const { user, system } = process.cpuUsage(hostStart);
    if (failed.length > 0) throw new Error(failed.map(({ tasks }) => tasks[0]?.row.trace).join('\n'));
    await after(async (node) => {
      const connector = `bench-${node}`;
      const { functionName } = await requireConnector(table, connector);
      await lambdaInvoker(lambda).request(functionName, { connector, task: 0, reason: 'manual' });
    });
    const platformCpuSeconds = functionsCpu((name) => name.startsWith('Sluice-Platform'));
    await host.stop();
    return {
      seconds,
      cpuSeconds: endedProcessesCpu() - endedBefore - platformCpuSeconds,
      platformCpuSeconds,
      hostCpuSeconds: (user + system) / 1e6,
      rssMb,
    };
  } finally {
    client.destroy();
    lambda.destroy();
    await host.stop();
    await rm(directory, { recursive: true, force: true });
  }
};
