// The runtime of one function instance: loads the bundle once, then runs one invocation at a time, as AWS's Node.js runtime does.
// Plain JavaScript, so that no start pays for type stripping.
import { existsSync, readFileSync } from 'node:fs';
import Module from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

// The host is gone: nobody waits for a result, and Lambda would not let the handler finish either.
process.once('disconnect', () => process.kill(process.pid, 'SIGKILL'));

const taskRoot = process.env.LAMBDA_TASK_ROOT;
const handlerName = process.env._HANDLER;
const maxResponseBytes = 6 * 1024 * 1024 + 100;

process.on('uncaughtException', (error, origin) => {
  const outcome = { type: 'fatal', error: errorShape(error) };
  if (origin === 'unhandledRejection') {
    outcome.error = { ...outcome.error, errorType: 'Runtime.UnhandledPromiseRejection', errorMessage: String(error) };
  }
  process.send(outcome, () => process.exit(origin === 'unhandledRejection' ? 128 : 129));
});

let handler;
try {
  handler = await load();
} catch (error) {
  process.send({ type: 'fatal', error: errorShape(error) }, () => process.exit(1));
}
if (handler) {
  process.on('message', (message) => void invoke(message));
  process.send({ type: 'ready' });
}

async function load() {
  const dot = handlerName.lastIndexOf('.');
  const exportName = handlerName.slice(dot + 1);
  const base = join(taskRoot, handlerName.slice(0, dot));
  const file = ['.js', '.mjs', '.cjs'].map((extension) => base + extension).find((path) => existsSync(path));
  if (!file)
    throw namedError(
      'Runtime.ImportModuleError',
      `Error: Cannot find module '${handlerName.slice(0, dot)}' in ${taskRoot}`,
    );
  const isCommonJs = file.endsWith('.js') && !existsSync(join(taskRoot, 'package.json'));
  let module;
  try {
    module = isCommonJs ? requireCommonJs(file) : await import(pathToFileURL(file).href);
  } catch (error) {
    if (error instanceof SyntaxError) throw namedError('Runtime.UserCodeSyntaxError', String(error), error);
    if (error.code === 'ERR_MODULE_NOT_FOUND' || error.code === 'MODULE_NOT_FOUND') {
      throw namedError('Runtime.ImportModuleError', String(error), error);
    }
    throw error;
  }
  const found = module[exportName] ?? module.default?.[exportName];
  if (typeof found !== 'function') {
    throw namedError('Runtime.HandlerNotFound', `${handlerName} is undefined or not exported`);
  }
  return found;
}

/** In Lambda nothing lies above the bundle; here a package.json of the project does and must not turn its .js file into an ES module. */
function requireCommonJs(file) {
  const module = new Module(file);
  module.filename = file;
  module.paths = Module._nodeModulePaths(taskRoot);
  module._compile(readFileSync(file, 'utf8'), file, 'commonjs');
  return module.exports;
}

async function invoke({ requestId, payload, deadlineMs, traceId, invokedFunctionArn }) {
  // The SDK's recursion detection reads this variable and sends it with every request.
  process.env._X_AMZN_TRACE_ID = traceId;
  const context = {
    callbackWaitsForEmptyEventLoop: true,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    functionVersion: '$LATEST',
    invokedFunctionArn,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    awsRequestId: requestId,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
    getRemainingTimeInMillis: () => Math.max(0, deadlineMs - Date.now()),
  };
  let outcome;
  try {
    const result = JSON.stringify(await handler(JSON.parse(payload), context)) ?? 'null';
    outcome =
      Buffer.byteLength(result) > maxResponseBytes
        ? { type: 'error', error: errorShape(tooLarge(Buffer.byteLength(result))) }
        : { type: 'result', payload: result };
  } catch (error) {
    outcome = { type: 'error', error: errorShape(error) };
  }
  process.send({ ...outcome, requestId, maxRssMb: peakRssMb() });
}

/** Not by getrusage where there is /proc: there a process that was forked begins with what its parent, the host, held. */
function peakRssMb() {
  const status = existsSync('/proc/self/status') ? readFileSync('/proc/self/status', 'latin1') : '';
  const peakKb = /^VmHWM:\s+(\d+) kB/m.exec(status)?.[1];
  return (peakKb === undefined ? process.resourceUsage().maxRSS : Number(peakKb)) / 1024;
}

function tooLarge(bytes) {
  return namedError(
    'Function.ResponseSizeTooLarge',
    `Response payload size (${bytes} bytes) exceeded maximum allowed payload size (6291556 bytes).`,
  );
}

function namedError(name, message, cause) {
  const error = new Error(message, { cause });
  error.name = name;
  return error;
}

function errorShape(error) {
  if (!(error instanceof Error)) {
    return {
      errorType: typeof error,
      errorMessage: typeof error === 'object' ? JSON.stringify(error) : String(error),
      trace: [],
    };
  }
  return { errorType: error.name, errorMessage: error.message, trace: (error.stack ?? '').split('\n') };
}
