import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createActivity } from '../../../infra/local/activity.ts';
import { compileEventFilter } from '../../../infra/local/event-filter.ts';
import type { Functions } from '../../../infra/local/functions.ts';
import { startStreams } from '../../../infra/local/streams.ts';
import { until } from '../../kit/until.ts';
import { temporaryDirectory } from './app.ts';

interface FakeShard {
  parent?: string;
  closed: boolean;
  sequenceNumbers: number[];
}

/** The embedded endpoint has one shard per stream that never ends; this one splits. */
async function streamEndpoint(shards: Map<string, FakeShard>): Promise<string> {
  const answer = (target: string, input: Record<string, string>): unknown => {
    if (target.endsWith('DescribeStream')) {
      const list = [...shards].map(([ShardId, { parent }]) => ({ ShardId, ParentShardId: parent }));
      return { StreamDescription: { Shards: list } };
    }
    if (target.endsWith('GetShardIterator')) return { ShardIterator: `${input.ShardId}/${input.SequenceNumber ?? 0}` };
    const [shardId, after] = input.ShardIterator!.split('/');
    const shard = shards.get(shardId!)!;
    const left = shard.sequenceNumbers.filter((number) => number > Number(after));
    const end = left.at(-1) ?? after;
    return {
      Records: left.map((number) => ({
        eventID: String(number),
        eventName: 'INSERT',
        dynamodb: { Keys: { id: { S: String(number) } }, SequenceNumber: String(number), SizeBytes: 1 },
      })),
      ...(shard.closed ? {} : { NextShardIterator: `${shardId}/${end}` }),
    };
  };
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    response.setHeader('content-type', 'application/x-amz-json-1.0');
    response.end(JSON.stringify(answer(String(request.headers['x-amz-target']), JSON.parse(body))));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('a shard that ends is followed by its children, parents first, and is not read again after a restart', async () => {
  const shards = new Map<string, FakeShard>([['parent', { closed: false, sequenceNumbers: [1, 2] }]]);
  const endpoint = await streamEndpoint(shards);
  const stateDir = await temporaryDirectory();
  await mkdir(join(stateDir, 'streams'));
  const delivered: string[] = [];
  const start = () => {
    const functions = {
      find: () => undefined,
      invoke: async (_name: string, { payload, requestId }: { payload: string; requestId: string }) => {
        const { Records } = JSON.parse(payload) as { Records: { dynamodb: { SequenceNumber: string } }[] };
        delivered.push(...Records.map(({ dynamodb }) => dynamodb.SequenceNumber));
        return { requestId, payload: 'null' };
      },
    } as unknown as Functions;
    const mapping = {
      name: 'App-Stream',
      table: {
        name: 'Items',
        streamArn: 'arn:aws:dynamodb:us-east-1:0:table/Items/stream/1',
        endpointStreamArn: 'stream',
      },
      functionName: 'Reader',
      enabled: true,
      startingPosition: 'TRIM_HORIZON' as const,
      batchSize: 100,
      batchingWindowMs: 0,
      filter: compileEventFilter([]),
      reportBatchItemFailures: false,
      bisectBatchOnFunctionError: false,
      maximumRetryAttempts: -1,
      maximumRecordAgeMs: -1,
      onFailure: undefined,
    };
    return startStreams([mapping], {
      endpoint,
      stateDir,
      functions,
      events: { accept: () => '', send: () => {}, stop: async () => {} },
      activity: createActivity(),
      retryDelayMs: { first: 1, longest: 1 },
      onLog: () => {},
    });
  };
  const streams = await start();
  await until(() => delivered.length === 2);
  shards.set('left', { parent: 'parent', closed: false, sequenceNumbers: [10] });
  shards.set('right', { parent: 'parent', closed: true, sequenceNumbers: [20] });
  shards.set('parent', { closed: true, sequenceNumbers: [1, 2, 3] });
  await until(() => delivered.length === 5);
  expect(delivered.slice(0, 3)).toEqual(['1', '2', '3']);
  expect(delivered.slice(3).sort()).toEqual(['10', '20']);
  await streams.stop();

  shards.get('left')!.sequenceNumbers.push(11);
  const again = await start();
  await again.caughtUp();
  expect(delivered.slice(5)).toEqual(['11']);
  await again.stop();
});
