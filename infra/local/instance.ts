import { fork, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { residentMb } from './process-identity.ts';

/** The shape in which Lambda reports that a function failed. */
export interface LambdaError {
  errorType: string;
  errorMessage: string;
  trace?: string[];
}

interface InstanceRequest {
  requestId: string;
  payload: string;
  traceId: string;
  invokedFunctionArn: string;
}

export interface Outcome {
  payload: string;
  error?: LambdaError;
  durationMs: number;
  /** Of a cold start alone. */
  initMs: number;
  maxRssMb: number;
}

export interface Instance {
  /** One at a time. Resolves also when the process had to be killed; then it is dead before the outcome is told. */
  invoke(request: InstanceRequest): Promise<Outcome>;
  readonly alive: boolean;
  /** Stops the process for a while, and the clock of its timeout too, as when a machine sleeps: it wakes up late, and goes on. */
  pause(ms: number): void;
  kill(): Promise<void>;
}

export interface InstanceOptions {
  environment: Record<string, string>;
  codeDirectory: string;
  timeoutMs: number;
  memoryMb: number;
  onLine: (line: string) => void;
}

type Answer =
  | { type: 'result'; requestId: string; payload: string; maxRssMb: number }
  | { type: 'error'; requestId: string; error: LambdaError; maxRssMb: number };

type Message = { type: 'ready' } | { type: 'fatal'; error: LambdaError } | Answer;

interface InvocationAnswer {
  payload?: string;
  error?: LambdaError;
  endedMs: number;
  maxRssMb: number;
}

interface Invocation {
  request: InstanceRequest;
  startedMs: number;
  initMs: number;
  maxRssMb: number;
  limit?: Limit;
  memoryCheck?: NodeJS.Timeout;
  answer?: InvocationAnswer;
  settle: (outcome: Outcome) => void;
}

/** Lambda gives the start of the process ten seconds of its own and then goes on within the function's timeout. */
const INIT_TIMEOUT_MS = 10_000;
const MEMORY_CHECK_INTERVAL_MS = 50;
/** The share of the memory that Lambda leaves to the JavaScript heap. */
const HEAP_SHARE = 0.9;

export function startInstance(options: InstanceOptions): Instance {
  const spawnedMs = performance.now();
  const child = fork(fileURLToPath(new URL('./worker.js', import.meta.url)), [], {
    cwd: options.codeDirectory,
    env: options.environment,
    execArgv: [`--max-old-space-size=${Math.floor(options.memoryMb * HEAP_SHARE)}`],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    // A group of its own: the terminal's Ctrl-C goes to the host alone, and what the function spawned is killed with it.
    detached: true,
  });
  let ready = false;
  let unreportedInitMs = 0;
  let invocation: Invocation | undefined;
  let failure: LambdaError | undefined;
  let alive = true;

  const kill = (): void => signalGroup('SIGKILL');
  const signalGroup = (signal: NodeJS.Signals): void => {
    if (child.pid === undefined) return;
    try {
      process.kill(-child.pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  };
  const closed = new Promise<void>((resolve) => {
    child.once('error', (error) => {
      failure ??= { errorType: 'Runtime.ExitError', errorMessage: error.message };
      // A process that was never made does not close.
      if (child.pid === undefined) ended(null, null, resolve);
    });
    child.once('exit', () => {
      alive = false;
      // What the function left running would hold its output open.
      kill();
    });
    child.once('close', (code, signal) => ended(code, signal, resolve));
  });
  onLines(child.stdout, options.onLine);
  onLines(child.stderr, options.onLine);
  child.on('message', (message: Message) => {
    if (message.type === 'ready') {
      ready = true;
      unreportedInitMs = performance.now() - spawnedMs;
      if (invocation) run(invocation);
    } else if (message.type === 'fatal') {
      failure ??= message.error;
    } else if (message.requestId === invocation?.request.requestId) {
      answered(invocation, message);
    }
  });

  function ended(code: number | null, signal: NodeJS.Signals | null, resolve: () => void): void {
    alive = false;
    const error = failure ?? exitError(code, signal);
    if (invocation) settle({ error: withRequestId(error, invocation.request.requestId) });
    resolve();
  }

  /** The cause is kept and told when the process is gone, so that nothing of it happens after its end was reported. */
  function killFor(error: LambdaError): void {
    failure ??= error;
    kill();
  }

  function run(current: Invocation): void {
    current.initMs = unreportedInitMs;
    unreportedInitMs = 0;
    current.startedMs = performance.now();
    const seconds = (options.timeoutMs / 1000).toFixed(2);
    limit(current, options.timeoutMs, `Task timed out after ${seconds} seconds`);
    child.send({ type: 'invoke', ...current.request, deadlineMs: Date.now() + options.timeoutMs }, (error) => {
      // A process that ends meanwhile is reported by its end.
      if (error && child.connected) killFor({ errorType: 'Runtime.ExitError', errorMessage: error.message });
    });
  }

  function limit(current: Invocation, limitMs: number, errorMessage: string): void {
    clearTimers(current);
    current.limit = startLimit(limitMs, () => killFor({ errorType: 'Sandbox.Timedout', errorMessage }));
    current.memoryCheck = watchMemory(current);
  }

  function watchMemory(current: Invocation): NodeJS.Timeout {
    return setInterval(() => {
      const rssMb = child.pid === undefined ? undefined : residentMb(child.pid);
      if (rssMb === undefined) return;
      current.maxRssMb = Math.max(current.maxRssMb, rssMb);
      if (rssMb > options.memoryMb) {
        killFor({ errorType: 'Runtime.OutOfMemory', errorMessage: 'Error: Runtime exited with error: signal: killed' });
      }
    }, MEMORY_CHECK_INTERVAL_MS);
  }

  /** What the function wrote before its answer is in the pipe and read in this turn of the loop: it is told before the outcome. */
  function answered(current: Invocation, message: Answer): void {
    clearTimers(current);
    const result = message.type === 'result' ? { payload: message.payload } : { error: message.error };
    current.answer = { ...result, endedMs: performance.now(), maxRssMb: message.maxRssMb };
    setImmediate(() => {
      if (invocation === current) settle(current.answer!);
    });
  }

  function settle(answer: Partial<InvocationAnswer>): void {
    const current = invocation!;
    const { payload, error, endedMs = performance.now(), maxRssMb = 0 } = current.answer ?? answer;
    invocation = undefined;
    clearTimers(current);
    current.settle({
      payload: payload ?? JSON.stringify(error),
      ...(error ? { error } : {}),
      durationMs: endedMs - current.startedMs,
      initMs: current.initMs,
      maxRssMb: Math.max(current.maxRssMb, maxRssMb),
    });
  }

  return {
    invoke(request) {
      return new Promise((resolve) => {
        invocation = { request, startedMs: performance.now(), initMs: 0, maxRssMb: 0, settle: resolve };
        if (!alive) {
          settle({ error: withRequestId(failure ?? exitError(child.exitCode, child.signalCode), request.requestId) });
        } else if (!ready) {
          const limitMs = INIT_TIMEOUT_MS + options.timeoutMs;
          limit(invocation, limitMs, `Init timed out after ${(limitMs / 1000).toFixed(2)} seconds`);
        } else run(invocation);
      });
    },
    get alive() {
      return alive && failure === undefined && child.connected;
    },
    pause(ms) {
      const limited = invocation?.limit;
      // Wakes it when the pipe closes, however this process ends: one that sleeps would not see that its host is gone.
      const alarm = spawn('/bin/sh', ['-c', 'read -r _; kill -s CONT -- "-$0"', String(child.pid)], {
        stdio: ['pipe', 'ignore', 'ignore'],
        detached: true,
      });
      alarm.once('spawn', () => {
        limited?.stop();
        signalGroup('SIGSTOP');
        const timer = setTimeout(() => alarm.stdin.end(), ms);
        // It may be killed meanwhile.
        void closed.then(() => {
          clearTimeout(timer);
          alarm.stdin.end();
        });
      });
      alarm.once('exit', () => limited?.goOn());
      // Without the alarm nobody sleeps.
      alarm.once('error', (error) => options.onLine(`chaos could not pause the process: ${error.message}`));
    },
    async kill() {
      kill();
      await closed;
    },
  };
}

function clearTimers({ limit, memoryCheck }: Invocation): void {
  limit?.end();
  clearInterval(memoryCheck);
}

/** A timeout whose clock can be stopped. */
interface Limit {
  stop(): void;
  goOn(): void;
  end(): void;
}

function startLimit(ms: number, onOver: () => void): Limit {
  let endsMs = performance.now() + ms;
  let leftMs = ms;
  let timer: NodeJS.Timeout | undefined = setTimeout(onOver, ms);
  return {
    stop() {
      clearTimeout(timer);
      leftMs = endsMs - performance.now();
    },
    goOn() {
      if (timer === undefined) return;
      endsMs = performance.now() + leftMs;
      timer = setTimeout(onOver, leftMs);
    },
    end() {
      clearTimeout(timer);
      timer = undefined;
    },
  };
}

function exitError(code: number | null, signal: NodeJS.Signals | null): LambdaError {
  let reason = 'without providing a reason';
  if (signal) reason = `with error: signal: ${signal === 'SIGKILL' ? 'killed' : signal}`;
  else if (code) reason = `with error: exit status ${code}`;
  return { errorType: 'Runtime.ExitError', errorMessage: `Error: Runtime exited ${reason}` };
}

/** What the platform reports, not the handler, names the request. */
function withRequestId(error: LambdaError, requestId: string): LambdaError {
  if (error.trace) return error;
  return { ...error, errorMessage: `RequestId: ${requestId} ${error.errorMessage}` };
}

function onLines(stream: NodeJS.ReadableStream | null, onLine: (line: string) => void): void {
  let rest = '';
  stream?.setEncoding('utf8');
  stream?.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) onLine(line);
  });
  stream?.on('end', () => {
    if (rest) onLine(rest);
  });
}
