import { readdir, readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { lambdaInvoker } from '../../shared/lambda/invoke.ts';
import { dynamoTable } from '../../shared/state/dynamodb/table.ts';
import { type Host, startHost } from '../local/host.ts';
import { requireUnlocked } from '../local/lock.ts';
import { loadPipelineFiles } from '../pipeline-file.ts';
import { synthPipelines } from '../synth.ts';
import { deadLeases } from './dead-leases.ts';
import { type Drained, drain } from './drain.ts';
import { createMeter, type Meter } from './meter.ts';
import { type Answer, exitCodes, writeLine } from './output.ts';
import { clientAt, findTable, lambdaAt } from './platform.ts';
import { startProgress } from './progress.ts';
import { startServices } from './services.ts';
import { summarize } from './summary.ts';

export interface RunOptions {
  readonly state: string;
  readonly json?: boolean;
  /** Everything goes wrong that may, by this seed. */
  readonly chaos?: number;
}

/** A pipeline on this machine: synthesized, its functions hosted, its tables kept under the state directory. */
export interface LocalPlatform extends AsyncDisposable {
  readonly host: Host;
  readonly meter: Meter;
  /** Where the cloud assembly is. */
  readonly assembly: string;
}

interface LocalOptions {
  readonly fireAtStart?: boolean;
  readonly print?: boolean;
  readonly drain?: boolean;
  readonly chaos?: number | undefined;
}

export const startLocal = async (
  files: readonly string[],
  stateDir: string,
  say: (line: string) => void,
  { fireAtStart = false, print = false, drain = false, chaos }: LocalOptions = {},
): Promise<LocalPlatform> => {
  const yaml = files.filter((file) => !/\.[jt]s$/.test(file));
  // Before a database or a synthesis writes over those of a run that uses the directory.
  await requireUnlocked(resolve(stateDir));
  // The slow starts at once: a database, and the synthesis.
  const starting = startServices(loadPipelineFiles(yaml), resolve(stateDir));
  const synthesis = synthPipelines({ files, outdir: join(resolve(stateDir), 'cdk.out') });
  await Promise.allSettled([starting, synthesis]);
  const services = await starting;
  const assembly = await synthesis.catch(async (cause: unknown) => {
    await services.stop();
    throw cause;
  });
  const meter = createMeter();
  const leases = deadLeases();
  try {
    const host = await startHost({
      assembly,
      stateDir: resolve(stateDir),
      env: {
        ...(await referencedVariables(assembly)),
        ...services.env,
        SLUICE_LOG_LEVEL: 'debug',
        ...(drain ? { SLUICE_DRAIN: '1' } : {}),
      },
      onLog: (functionName, line) => {
        meter.line(functionName, line);
        if (print) say(`${functionName}  ${line}`);
      },
      onInvocation: (report) => {
        meter.invocation(report);
        if (report.error !== undefined) leases.died(report.requestId);
      },
      onObjectRequest: (request) => meter.object(request),
      beforeFunctions: async ({ endpoint, kind }) => {
        // An endpoint of the user's own may have other hosts: their leases are left to expire.
        if (kind === 'embedded') await leases.clear(endpoint);
      },
      fireAtStart,
      ...(chaos === undefined ? {} : { chaos: { seed: chaos } }),
    });
    say(
      `dynamodb: ${host.dynamodb.kind === 'embedded' ? `embedded, in ${stateDir}` : `at ${host.dynamodb.endpoint} (AWS_ENDPOINT_URL_DYNAMODB)`}`,
    );
    for (const note of services.notes) say(note);
    return {
      host,
      meter,
      assembly,
      async [Symbol.asyncDispose]() {
        try {
          await host.stop({ graceMs: 3_000 });
        } finally {
          leases.close();
          await services.stop();
        }
      },
    };
  } catch (cause) {
    leases.close();
    await services.stop();
    throw cause;
  }
};

/** The variables of this shell that the pipelines refer to by `${env:NAME}`: no function sees any other. */
const referencedVariables = async (assembly: string): Promise<Record<string, string>> => {
  const templates = (await readdir(assembly)).filter((name) => name.endsWith('.template.json'));
  const text = (await Promise.all(templates.map((name) => readFile(join(assembly, name), 'utf8')))).join('\n');
  const names = new Set(Array.from(text.matchAll(/\$\{env:([^}]+)\}/g), (match) => match[1]!));
  return Object.fromEntries(
    [...names].flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]!]])),
  );
};

/** Runs pipelines until they are drained: sources to their end, sinks to the heads after that. */
export const run = async (files: readonly string[], options: RunOptions, interrupted: AbortSignal): Promise<Answer> => {
  const startMs = Date.now();
  const say = options.json ? () => {} : writeLine;
  await using local = await startLocal(files, options.state, say, { drain: true, chaos: options.chaos });
  const { host, meter } = local;
  const client = clientAt(host.dynamodb.endpoint);
  const lambda = lambdaAt(host.lambdaEndpoint);
  try {
    const table = dynamoTable({ client, tableName: await findTable(client) });
    const progress = options.json ? { show: () => {}, end: () => {} } : startProgress(process.stdout, startMs);
    const toTheEnd = () => drain(table, lambdaInvoker(lambda), interrupted, (states) => progress.show(states));
    let drained = await toTheEnd();
    // What a retry can mend is tried again at once, as the coordinator would do after some minutes.
    while (options.chaos !== undefined && isMendable(drained)) drained = await toTheEnd();
    progress.show(drained.states);
    progress.end();
    const answer = summarize(drained, meter, Date.now() - startMs, nextCommands(files, drained));
    const chaos = host.chaos();
    if (chaos === undefined) return answer;
    return { ...answer, lines: [...answer.lines, chaos], result: { ...(answer.result as object), chaos } };
  } catch (cause) {
    if (!interrupted.aborted) throw cause;
    return {
      lines: ['interrupted: what is committed stays; the next start goes on from there'],
      exitCode: exitCodes.interrupted,
    };
  } finally {
    client.destroy();
    lambda.destroy();
  }
};

const isMendable = ({ failed }: Drained): boolean =>
  failed.length > 0 &&
  failed.every(({ tasks }) => tasks.every(({ state, row }) => state !== 'FAILED' || row.retriable === true));

const nextCommands = (files: readonly string[], { states }: Drained): readonly string[] => {
  const topic = states.find((state) => state.row.from !== undefined)?.row.from?.[0];
  return [...(topic === undefined ? [] : [`npx sluice topics tail ${topic}`]), `npx sluice dev ${files.join(' ')}`];
};
