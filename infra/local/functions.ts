import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Activity } from './activity.ts';
import type { AccessKey } from './authorizer.ts';
import type { Chaos } from './chaos.ts';
import type { FunctionDefinition } from './function.ts';
import { type Instance, type LambdaError, type Outcome, startInstance } from './instance.ts';

export interface InvocationReport {
  functionName: string;
  requestId: string;
  durationMs: number;
  initMs: number;
  billedMs: number;
  memoryMb: number;
  maxRssMb: number;
  error?: LambdaError;
}

interface InvocationRequest {
  payload: string;
  requestId: string;
  traceId: string;
  /** A function waits for the answer: it takes no place of the host's own limit, or callers and callees could wait for each other. */
  nested?: boolean;
  /** At the function's reserved concurrency: wait for a place, or fail as the Invoke API does. */
  whenBusy: 'wait' | 'throttle';
}

export interface InvocationResult {
  requestId: string;
  payload: string;
  error?: LambdaError;
}

export interface Functions {
  find(name: string): FunctionDefinition | undefined;
  all(): FunctionDefinition[];
  add(definition: FunctionDefinition): void;
  remove(name: string): void;
  invoke(name: string, request: InvocationRequest): Promise<InvocationResult>;
  /** Ends every process. Invocations that run may finish within graceMs, those that wait are refused at once. */
  stop(graceMs: number): Promise<void>;
}

export interface FunctionsOptions {
  activity: Activity;
  /** Overrides the template's variables: endpoints, and what the caller of the host gives. */
  environment: () => Record<string, string>;
  accessKeyOf: (definition: FunctionDefinition) => AccessKey;
  chaos: Chaos | undefined;
  maxConcurrency: number;
  idleMs: number;
  onLog: (functionName: string, line: string) => unknown;
  onInvocation: (report: InvocationReport) => void;
}

/** Reserved concurrency is used up, or zero. */
export class TooManyRequestsException extends Error {
  override name = 'TooManyRequestsException';
}

export class HostStoppingError extends Error {
  override name = 'HostStoppingError';
}

interface Slot {
  instance: Instance;
  definition: FunctionDefinition;
  busy: boolean;
  usedAtMs: number;
}

interface Waiting {
  definition: FunctionDefinition;
  request: InvocationRequest;
  resolve: (result: InvocationResult) => void;
  reject: (error: Error) => void;
}

/** Processes kept in all, for each that may run at once: warm ones of other functions cost memory only. */
const INSTANCES_PER_RUNNING = 3;

export function createFunctions(options: FunctionsOptions): Functions {
  const definitions = new Map<string, FunctionDefinition>();
  const slots = new Set<Slot>();
  const ending = new Set<Promise<void>>();
  let waiting: Waiting[] = [];
  let running = 0;
  let stopping = false;
  const sweep = setInterval(endIdle, Math.min(options.idleMs, 30_000));
  sweep.unref();

  function end(slot: Slot): void {
    slots.delete(slot);
    const ended = slot.instance.kill().finally(() => ending.delete(ended));
    ending.add(ended);
  }

  function endIdle(): void {
    for (const slot of slots) {
      if (!slot.busy && Date.now() - slot.usedAtMs >= options.idleMs) end(slot);
    }
  }

  function slotFor(definition: FunctionDefinition): Slot {
    // The warmest first, so that what a burst started can go idle.
    const idle = [...slots].filter((slot) => !slot.busy).sort((a, b) => b.usedAtMs - a.usedAtMs);
    for (const slot of idle) {
      if (slot.definition !== definition) continue;
      if (slot.instance.alive) return slot;
      end(slot);
    }
    const oldest = idle.at(-1);
    if (oldest && slots.size >= options.maxConcurrency * INSTANCES_PER_RUNNING) end(oldest);
    const slot: Slot = {
      definition,
      busy: false,
      usedAtMs: Date.now(),
      instance: startInstance(instanceOptions(definition)),
    };
    slots.add(slot);
    return slot;
  }

  function instanceOptions(definition: FunctionDefinition) {
    return {
      environment: environmentOf(definition, options.environment(), options.accessKeyOf(definition)),
      codeDirectory: definition.codeDirectory,
      timeoutMs: definition.timeoutMs,
      memoryMb: definition.memoryMb,
      onLine: (line: string) => options.onLog(definition.name, line),
    };
  }

  function hasPlace({ definition, request }: Waiting): boolean {
    if (!request.nested && running >= options.maxConcurrency) return false;
    return busyInstances(definition) < (definition.reservedConcurrency ?? Number.POSITIVE_INFINITY);
  }

  function busyInstances(definition: FunctionDefinition): number {
    return [...slots].filter((slot) => slot.busy && slot.definition === definition).length;
  }

  function startWaiting(): void {
    for (;;) {
      const index = waiting.findIndex(hasPlace);
      const next = index < 0 ? undefined : waiting.splice(index, 1)[0];
      if (!next) return;
      void run(next);
    }
  }

  async function run({ definition, request, resolve }: Waiting): Promise<void> {
    const slot = slotFor(definition);
    slot.busy = true;
    if (!request.nested) running += 1;
    const endTrouble = troubled(slot.instance, definition);
    const outcome = await slot.instance.invoke({
      requestId: request.requestId,
      payload: request.payload,
      traceId: request.traceId,
      invokedFunctionArn: definition.arn,
    });
    endTrouble();
    slot.busy = false;
    slot.usedAtMs = Date.now();
    if (!request.nested) running -= 1;
    if (!slot.instance.alive) end(slot);
    options.onInvocation(report(definition, request.requestId, outcome));
    startWaiting();
    resolve({
      requestId: request.requestId,
      payload: outcome.payload,
      ...(outcome.error ? { error: outcome.error } : {}),
    });
  }

  /** Has chaos do to the process what it likes to; called when the invocation is over. */
  function troubled(instance: Instance, { timeoutMs }: FunctionDefinition): () => void {
    const trouble = options.chaos?.troubleOf(timeoutMs);
    if (!trouble) return () => {};
    const timer = setTimeout(() => {
      options.chaos?.count(trouble.pauseMs === undefined ? 'processes killed' : 'processes paused');
      if (trouble.pauseMs === undefined) void instance.kill();
      else instance.pause(trouble.pauseMs);
    }, trouble.afterMs);
    return () => clearTimeout(timer);
  }

  function invoke(name: string, request: InvocationRequest): Promise<InvocationResult> {
    const definition = definitions.get(name);
    if (!definition) return Promise.reject(new Error(`there is no function ${name}`));
    if (stopping) return Promise.reject(new HostStoppingError(`${name} was not invoked: the host is stopping`));
    const { reservedConcurrency } = definition;
    const throttled =
      reservedConcurrency === 0 ||
      (request.whenBusy === 'throttle' &&
        busyInstances(definition) >= (reservedConcurrency ?? Number.POSITIVE_INFINITY));
    if (throttled) return Promise.reject(new TooManyRequestsException('Rate Exceeded.'));
    return new Promise((resolve, reject) => {
      waiting.push({ definition, request, resolve, reject });
      startWaiting();
    });
  }

  return {
    find: (name) => definitions.get(name),
    all: () => [...definitions.values()],
    add: (definition) => {
      definitions.set(definition.name, definition);
    },
    remove: (name) => {
      definitions.delete(name);
    },
    invoke: (name, request) => options.activity.track(invoke(name, request)),
    async stop(graceMs) {
      stopping = true;
      clearInterval(sweep);
      for (const { definition, reject } of waiting) {
        reject(new HostStoppingError(`${definition.name} was not invoked: the host is stopping`));
      }
      waiting = [];
      const deadlineMs = Date.now() + graceMs;
      while ([...slots].some((slot) => slot.busy) && Date.now() < deadlineMs) await delay(5);
      for (const slot of slots) end(slot);
      await Promise.all(ending);
    },
  };
}

function report(definition: FunctionDefinition, requestId: string, outcome: Outcome): InvocationReport {
  return {
    functionName: definition.name,
    requestId,
    durationMs: outcome.durationMs,
    initMs: outcome.initMs,
    // Lambda bills the start too, in whole milliseconds.
    billedMs: Math.ceil(outcome.durationMs + outcome.initMs),
    memoryMb: definition.memoryMb,
    maxRssMb: outcome.maxRssMb,
    ...(outcome.error ? { error: outcome.error } : {}),
  };
}

/** Nothing of the host's own environment but what any program needs: a variable missing on AWS must be missing here. */
function environmentOf(
  definition: FunctionDefinition,
  overrides: Record<string, string>,
  { accessKeyId, secretAccessKey }: AccessKey,
): Record<string, string> {
  const inherited = Object.fromEntries(
    ['PATH', 'HOME', 'TMPDIR', 'LANG'].flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])),
  );
  return {
    ...inherited,
    TZ: ':UTC',
    ...definition.environment,
    AWS_REGION: definition.region,
    AWS_DEFAULT_REGION: definition.region,
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_EXECUTION_ENV: `AWS_Lambda_nodejs${process.versions.node.split('.')[0]}.x`,
    AWS_LAMBDA_FUNCTION_NAME: definition.name,
    AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE: String(definition.memoryMb),
    AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
    AWS_LAMBDA_LOG_GROUP_NAME: `/aws/lambda/${definition.name}`,
    AWS_LAMBDA_LOG_STREAM_NAME: `${new Date().toISOString().slice(0, 10).replaceAll('-', '/')}/[$LATEST]${randomUUID().replaceAll('-', '')}`,
    LAMBDA_TASK_ROOT: definition.codeDirectory,
    _HANDLER: definition.handler,
    ...overrides,
    // What it may do is known by its key, so nobody gives it another one.
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
  };
}
