import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, connect as netConnect, type Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { defaultProvider } from '@aws-sdk/credential-provider-node';
import { Sha256 } from '@smithy/core/checksum';
import { SignatureV4 } from '@smithy/signature-v4';
import { type Authorizer, hostAccessKey } from './authorizer.ts';
import type { CallFault } from './chaos.ts';
import type { Dynamodb } from './dynamodb.ts';
import { accessOf, type TableKeys } from './dynamodb-access.ts';
import { listen } from './listen.ts';

export interface DynamodbProxy {
  endpoint: string;
  stop(): Promise<void>;
}

export interface DynamodbProxyOptions {
  dynamodb: Pick<Dynamodb, 'endpoint' | 'kind'>;
  region: string;
  authorizer: Authorizer;
  tables: readonly (TableKeys & { name: string })[];
  /** What is to go wrong with this call of the one with the key. */
  faultOf: (accessKeyId: string) => CallFault | undefined;
  /** A function has written: its streams have something to read. */
  onWritten: () => void;
}

const HEAD_END = Buffer.from('\r\n\r\n');
const MAX_HEAD_BYTES = 65_536;
const WRITES = /\.(Put|Update|Delete|TransactWrite|BatchWrite)Items?$/;
/** DynamoDB's own limit, and a head. */
const MAX_REQUEST_BYTES = 16 * 1024 * 1024 + MAX_HEAD_BYTES;

/**
 * DynamoDB as functions reach it: who may not do what a request asks for is refused, and everything else is passed on. It works on
 * connections, one to DynamoDB for each of a function, and not on node:http: that costs three times the CPU of such a call.
 */
export async function startDynamodbProxy(options: DynamodbProxyOptions): Promise<DynamodbProxy> {
  const sockets = new Set<Socket>();
  const prepare = options.dynamodb.kind === 'external' ? resigner(options) : async (request: Request) => request.bytes;
  const server = createServer({ noDelay: true }, (client) => {
    sockets.add(client);
    client.once('close', () => sockets.delete(client));
    serve(client, options, prepare);
  });
  const port = await listen(server);
  return {
    endpoint: `http://127.0.0.1:${port}`,
    async stop() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

interface Request {
  bytes: Buffer;
  head: string;
  body: Buffer;
}

/** A client sends its next request after the answer to the one before, so answers need no order of their own. */
function serve(client: Socket, options: DynamodbProxyOptions, prepare: (request: Request) => Promise<Buffer>): void {
  const { protocol, hostname, port } = new URL(options.dynamodb.endpoint);
  const secure = protocol === 'https:';
  const place = { host: hostname, port: Number(port) || (secure ? 443 : 80), noDelay: true };
  const upstream = secure ? tlsConnect({ ...place, servername: hostname }) : netConnect(place);
  let fault: CallFault | undefined;
  let writes = false;
  upstream.on('data', (answer) => {
    if (writes) options.onWritten();
    writes = false;
    if (fault === undefined) client.write(answer);
    else if (fault === 'answerLost') client.destroy();
    else if (!client.writableEnded) client.end(errorAnswer(faults[fault], 'close'));
  });

  async function take(request: Request): Promise<void> {
    const outcome = judge(request, options);
    if ('error' in outcome) {
      client.write(errorAnswer(outcome.error));
      return;
    }
    fault = outcome.fault;
    writes = WRITES.test(headerOf(request.head, 'x-amz-target') ?? '');
    upstream.write(await prepare(request));
  }
  readRequests(client, (request) => void take(request).catch((error: Error) => client.destroy(error)));

  // What breaks on one side breaks on the other: the SDK tries again.
  for (const [socket, other] of [
    [client, upstream],
    [upstream, client],
  ] as const) {
    socket.on('error', () => other.destroy());
    socket.on('close', () => other.destroy());
  }
}

/** Calls back with each request of the connection, whole. */
function readRequests(client: Socket, onRequest: (request: Request) => void): void {
  let pending: Buffer[] = [];
  let size = 0;
  /** Below it there is nothing to see that was not seen before. */
  let wanted = 0;
  client.on('data', (chunk) => {
    pending.push(chunk);
    size += chunk.length;
    while (size > 0 && size >= wanted) {
      const bytes = pending.length === 1 ? pending[0]! : Buffer.concat(pending);
      pending = [bytes];
      const headBytes = bytes.indexOf(HEAD_END);
      const head = bytes.toString('latin1', 0, Math.max(0, headBytes));
      wanted = headBytes < 0 ? 0 : headBytes + HEAD_END.length + Number(headerOf(head, 'content-length') ?? 0);
      if (wanted > MAX_REQUEST_BYTES || (headBytes < 0 && size > MAX_HEAD_BYTES)) client.destroy();
      if (headBytes < 0 || size < wanted) return;
      pending = [bytes.subarray(wanted)];
      size -= wanted;
      onRequest({ bytes: bytes.subarray(0, wanted), head, body: bytes.subarray(headBytes + HEAD_END.length, wanted) });
      wanted = 0;
    }
  });
}

function headerOf(head: string, name: string): string | undefined {
  return new RegExp(`\\r\\n${name}: *([^\\r]*)`, 'i').exec(head)?.[1];
}

/** Passed on, perhaps with a fault, or answered here. */
type Outcome = { fault: CallFault | undefined } | { error: ErrorAnswer };

function judge({ head, body }: Request, { authorizer, tables, faultOf }: DynamodbProxyOptions): Outcome {
  const [, accessKeyId = ''] = /Credential=([^/]+)\//.exec(headerOf(head, 'authorization') ?? '') ?? [];
  const [api = '', operation = ''] = (headerOf(head, 'x-amz-target') ?? '').split('.');
  if (!api.startsWith('DynamoDB_'))
    return refuse('UnknownOperationException', `the local host does not offer ${api} to functions`);
  const caller = authorizer.functionOf(accessKeyId);
  const prefix = caller?.arn.replace(':lambda:', ':dynamodb:').replace(/function:.*/, 'table/') ?? '';
  try {
    const requests = accessOf(
      operation,
      JSON.parse(body.toString()),
      (name) => tables.find((table) => table.name === name) ?? { arn: prefix + name, partitionKey: '', indexes: {} },
    );
    for (const { action, resource, context } of requests) {
      const denial = authorizer.authorize(accessKeyId, action, resource, context);
      if (denial) return refuse(denials[denial.reason], denial.message);
    }
  } catch (error) {
    return refuse('ValidationException', (error as Error).message);
  }
  const fault = faultOf(accessKeyId);
  return fault === 'throttled' || fault === 'failed' ? { error: faults[fault] } : { fault };
}

const denials = { unknownKey: 'UnrecognizedClientException', denied: 'AccessDeniedException' };

const refuse = (name: string, message: string): Outcome => ({ error: { status: 400, name, message } });

interface ErrorAnswer {
  status: number;
  name: string;
  message: string;
}

const internal = { status: 500, name: 'InternalServerError', message: 'chaos: DynamoDB failed' };
const faults = {
  throttled: { status: 400, name: 'ThrottlingException', message: 'chaos: DynamoDB throttled the request' },
  failed: internal,
  failedAfter: internal,
};

function errorAnswer({ status, name, message }: ErrorAnswer, connection = 'keep-alive'): string {
  const body = JSON.stringify({ __type: `com.amazonaws.dynamodb.v20120810#${name}`, message });
  return [
    `HTTP/1.1 ${status} ${name}`,
    'content-type: application/x-amz-json-1.0',
    `content-length: ${Buffer.byteLength(body)}`,
    `x-amzn-requestid: ${randomUUID()}`,
    `connection: ${connection}`,
    '',
    body,
  ].join('\r\n');
}

/** An endpoint of the user's own may check signatures, and AWS itself does: it gets the user's, not the function's. */
function resigner({ dynamodb, region }: DynamodbProxyOptions): (request: Request) => Promise<Buffer> {
  const { host, hostname, protocol, pathname } = new URL(dynamodb.endpoint);
  const signer = new SignatureV4({
    service: 'dynamodb',
    region,
    credentials: process.env.AWS_ACCESS_KEY_ID ? defaultProvider() : hostAccessKey,
    sha256: Sha256,
  });
  return async ({ head, body }) => {
    const kept = ['content-type', 'x-amz-target', 'accept-encoding', 'x-amz-user-agent'].flatMap((name) => {
      const value = headerOf(head, name);
      return value === undefined ? [] : [[name, value]];
    });
    const { headers } = await signer.sign({
      method: 'POST',
      protocol,
      hostname,
      path: pathname,
      headers: { ...Object.fromEntries(kept), host, 'content-length': String(body.length) },
      body,
    });
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    return Buffer.concat([Buffer.from(`POST ${pathname} HTTP/1.1\r\n${lines.join('')}\r\n`), body]);
  };
}
