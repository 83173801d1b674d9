import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Authorizer } from './authorizer.ts';
import type { EventQueue } from './event-queue.ts';
import { type Functions, TooManyRequestsException } from './functions.ts';
import { continueTrace } from './lineage.ts';
import { listen } from './listen.ts';
import { functionNameOf } from './properties.ts';

export type InvocationType = 'RequestResponse' | 'Event' | 'DryRun';

export interface InvokeAnswer {
  statusCode: 200 | 202 | 204;
  requestId: string;
  payload: string;
  functionError?: 'Unhandled';
}

/** An error of the Invoke API, as the SDK knows it by name. */
class InvokeError extends Error {
  readonly statusCode: number;
  constructor(name: string, statusCode: number, message: string) {
    super(message);
    this.name = name;
    this.statusCode = statusCode;
  }
}

export type Invoke = (
  nameOrArn: string,
  payload: string,
  type: InvocationType,
  callerTraceId?: string,
) => Promise<InvokeAnswer>;

const LIMIT_BYTES = { RequestResponse: 6_291_456, DryRun: 6_291_456, Event: 262_144 };

/** Lambda's Invoke: what the HTTP API, schedules and the owner of the host all go through. */
export function createInvoke(functions: Functions, events: EventQueue): Invoke {
  return async (nameOrArn, payload, type, callerTraceId) => {
    const name = functionNameOf(nameOrArn);
    const definition = functions.find(name);
    if (!definition) throw new InvokeError('ResourceNotFoundException', 404, `Function not found: ${nameOrArn}`);
    requireInvokable(payload, type);
    if (type === 'DryRun') return { statusCode: 204, requestId: randomUUID(), payload: '' };
    const body = payload === '' ? '{}' : payload;
    if (type === 'Event') return { statusCode: 202, requestId: events.accept(name, body, callerTraceId), payload: '' };
    const { traceId, recursive } = continueTrace(callerTraceId, name);
    if (recursive && definition.recursiveLoop !== 'Allow') {
      throw new InvokeError(
        'RecursiveInvocationException',
        400,
        `Lambda detected a recursive loop: ${name} was invoked 16 times in one chain of requests; set RecursiveLoop to Allow if that is meant`,
      );
    }
    const nested = callerTraceId !== undefined;
    const result = await functions.invoke(name, {
      payload: body,
      requestId: randomUUID(),
      traceId,
      nested,
      whenBusy: 'throttle',
    });
    return {
      statusCode: 200,
      requestId: result.requestId,
      payload: result.payload,
      ...(result.error ? { functionError: 'Unhandled' } : {}),
    };
  };
}

function requireInvokable(payload: string, type: InvocationType): void {
  const bytes = Buffer.byteLength(payload);
  if (bytes > LIMIT_BYTES[type]) throw tooLarge(`${bytes} byte payload`, type);
  if (payload === '') return;
  try {
    JSON.parse(payload);
  } catch (cause) {
    throw new InvokeError(
      'InvalidRequestContentException',
      400,
      `Could not parse request body into json: ${(cause as Error).message}`,
    );
  }
}

function tooLarge(what: string, type: InvocationType): InvokeError {
  return new InvokeError(
    'RequestTooLargeException',
    413,
    `${what} is too large for the ${type} invocation type (limit ${LIMIT_BYTES[type]} bytes)`,
  );
}

export interface LambdaApi {
  endpoint: string;
  stop(): Promise<void>;
}

export interface LambdaApiOptions {
  invoke: Invoke;
  /** Asked with the caller's access key and the function that it calls. */
  authorize: (accessKeyId: string, nameOrArn: string) => ReturnType<Authorizer['authorize']>;
  /** A custom resource answers by PUT to a URL of this server; false where nobody waits for it. */
  onCustomResourceResponse: (token: string, body: string) => boolean;
}

const RESPONSE_PATH = '/custom-resource-responses/';

export async function startLambdaApi(options: LambdaApiOptions): Promise<LambdaApi> {
  const server = createServer((request, response) => void answer(request, response, options));
  // The SDK keeps connections open for reuse; one that the server closes first is an ECONNRESET in a handler.
  server.keepAliveTimeout = 600_000;
  const port = await listen(server);
  return {
    endpoint: `http://127.0.0.1:${port}`,
    async stop() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

export function customResourceResponseUrl(endpoint: string, token: string): string {
  return `${endpoint}${RESPONSE_PATH}${token}`;
}

async function answer(request: IncomingMessage, response: ServerResponse, options: LambdaApiOptions): Promise<void> {
  try {
    const { pathname } = new URL(request.url ?? '/', 'http://127.0.0.1');
    if (request.method === 'PUT' && pathname.startsWith(RESPONSE_PATH)) {
      const known = options.onCustomResourceResponse(
        pathname.slice(RESPONSE_PATH.length),
        await bodyOf(request, 'DryRun'),
      );
      response.writeHead(known ? 200 : 403).end();
      return;
    }
    const [, nameOrArn] = /^\/2015-03-31\/functions\/([^/]+)\/invocations$/.exec(pathname) ?? [];
    if (request.method !== 'POST' || nameOrArn === undefined) {
      throw new InvokeError(
        'UnknownOperationException',
        404,
        `the local host offers Invoke only, not ${request.method} ${pathname}`,
      );
    }
    const [, accessKeyId = ''] = /Credential=([^/]+)\//.exec(request.headers.authorization ?? '') ?? [];
    const denial = options.authorize(accessKeyId, decodeURIComponent(nameOrArn));
    if (denial) {
      const unknown = denial.reason === 'unknownKey';
      throw new InvokeError(unknown ? 'UnrecognizedClientException' : 'AccessDeniedException', 403, denial.message);
    }
    await answerInvoke(request, response, options.invoke, decodeURIComponent(nameOrArn));
  } catch (error) {
    answerError(response, error as Error);
  }
}

async function answerInvoke(
  request: IncomingMessage,
  response: ServerResponse,
  invoke: Invoke,
  nameOrArn: string,
): Promise<void> {
  const type = request.headers['x-amz-invocation-type'] ?? 'RequestResponse';
  if (type !== 'RequestResponse' && type !== 'Event' && type !== 'DryRun') {
    throw new InvokeError(
      'InvalidParameterValueException',
      400,
      `InvocationType ${type} is not RequestResponse, Event or DryRun`,
    );
  }
  const trace = request.headers['x-amzn-trace-id'];
  const result = await invoke(nameOrArn, await bodyOf(request, type), type, Array.isArray(trace) ? trace[0] : trace);
  response.writeHead(result.statusCode, {
    'x-amzn-requestid': result.requestId,
    ...(type === 'RequestResponse' ? { 'content-type': 'application/json', 'x-amz-executed-version': '$LATEST' } : {}),
    ...(result.functionError ? { 'x-amz-function-error': result.functionError } : {}),
  });
  response.end(result.payload);
}

function answerError(response: ServerResponse, error: Error): void {
  if (response.headersSent) {
    response.destroy(error);
    return;
  }
  const known =
    error instanceof TooManyRequestsException
      ? { statusCode: 429, extra: { Reason: 'ReservedFunctionConcurrentInvocationLimitExceeded' } }
      : { statusCode: error instanceof InvokeError ? error.statusCode : 500, extra: {} };
  const name = known.statusCode === 500 ? 'ServiceException' : error.name;
  response.writeHead(known.statusCode, { 'content-type': 'application/json', 'x-amzn-errortype': name });
  response.end(
    JSON.stringify({ Type: known.statusCode >= 500 ? 'Server' : 'User', Message: error.message, ...known.extra }),
  );
}

async function bodyOf(request: IncomingMessage, type: InvocationType): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    // Read on to the end: a client that still sends would see a reset instead of the answer.
    if (bytes <= LIMIT_BYTES[type]) chunks.push(chunk);
  }
  if (bytes > LIMIT_BYTES[type]) throw tooLarge(`${bytes} byte payload`, type);
  return Buffer.concat(chunks).toString('utf8');
}
