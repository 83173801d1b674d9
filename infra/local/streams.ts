import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import {
  DescribeStreamCommand,
  DynamoDBStreamsClient,
  GetRecordsCommand,
  type Shard,
} from '@aws-sdk/client-dynamodb-streams';
import type { Activity } from './activity.ts';
import type { Chaos } from './chaos.ts';
import { clientConfig } from './dynamodb.ts';
import type { EventQueue } from './event-queue.ts';
import type { EventSourceMapping } from './event-source-mapping.ts';
import { type Functions, HostStoppingError } from './functions.ts';
import { iteratorAfter, type ShardReader, startShardReader } from './shard-reader.ts';
import { type BatchOptions, type DiscardedBatch, deliverBatch, discardedBatchRecord } from './stream-batch.ts';
import type { StreamRecord } from './stream-event.ts';
import { openStreamPositions, type ShardPosition, type StreamPositions } from './stream-positions.ts';

export interface Streams {
  /** Something may have been written: look now. */
  nudge(): void;
  caughtUp(): Promise<void>;
  stop(): Promise<void>;
}

export interface StreamsOptions {
  endpoint: string;
  stateDir: string;
  functions: Functions;
  events: EventQueue;
  activity: Activity;
  retryDelayMs: { first: number; longest: number };
  chaos?: Chaos | undefined;
  onLog: (functionName: string, line: string) => unknown;
}

const SHARD_REFRESH_MS = 10_000;

interface RunningMapping {
  nudge(): void;
  caughtUp(): Promise<void>;
  done: Promise<void>;
}

/** Resolves when the start positions of all mappings are pinned: what is written from then on is delivered. */
export async function startStreams(mappings: EventSourceMapping[], options: StreamsOptions): Promise<Streams> {
  const stopping = new AbortController();
  const client = new DynamoDBStreamsClient(clientConfig(options.endpoint, process.env.AWS_REGION ?? 'us-east-1'));
  const running = await Promise.all(
    mappings.filter(({ enabled }) => enabled).map((mapping) => startMapping(mapping, options, client, stopping.signal)),
  );
  return {
    nudge: () => {
      for (const mapping of running) mapping.nudge();
    },
    caughtUp: async () => {
      await Promise.all(running.map((mapping) => mapping.caughtUp()));
    },
    async stop() {
      stopping.abort();
      await Promise.all(running.map((mapping) => mapping.done));
      client.destroy();
    },
  };
}

async function startMapping(
  mapping: EventSourceMapping,
  options: StreamsOptions,
  client: DynamoDBStreamsClient,
  signal: AbortSignal,
): Promise<RunningMapping> {
  const endpointStreamArn = mapping.table.endpointStreamArn!;
  const positions = await openStreamPositions(
    join(options.stateDir, 'streams', `${mapping.name}.json`),
    endpointStreamArn,
  );
  const readers = createShardReaders(mapping, options, client, positions, signal);
  const follow = async (): Promise<void> => {
    while (!signal.aborted) {
      await readers.untilShardsMayDiffer();
      if (signal.aborted) break;
      try {
        readers.start(await listShards(client, endpointStreamArn));
      } catch (error) {
        options.onLog(
          mapping.functionName,
          `cannot list the shards of ${mapping.table.streamArn}, trying again: ${(error as Error).message}`,
        );
      }
    }
    await Promise.all(readers.all().map((reader) => reader.done));
    await positions.saved();
  };
  const shards = await listShards(client, endpointStreamArn);
  if (!positions.known) await pinStart(mapping, client, shards, positions);
  readers.start(shards);
  return {
    nudge: () => {
      for (const reader of readers.all()) reader.nudge();
    },
    caughtUp: async () => {
      await Promise.all(readers.all().map((reader) => reader.caughtUp()));
    },
    done: follow(),
  };
}

function createShardReaders(
  mapping: EventSourceMapping,
  options: StreamsOptions,
  client: DynamoDBStreamsClient,
  positions: StreamPositions,
  signal: AbortSignal,
) {
  const readers = new Map<string, ShardReader>();
  let wake: (() => void) | undefined;
  signal.addEventListener('abort', () => wake?.(), { once: true });
  const isClosed = (shardId: string): boolean => positions.get(shardId)?.closed === true;

  const startReader = (shardId: string): void => {
    const reader = startShardReader({
      client,
      shardId,
      endpointStreamArn: mapping.table.endpointStreamArn!,
      streamArn: mapping.table.streamArn!,
      positions,
      filter: mapping.filter,
      batchSize: mapping.batchSize,
      batchingWindowMs: mapping.batchingWindowMs,
      signal,
      onLog: (line) => options.onLog(mapping.functionName, line),
      deliver: (records, checkpoint) =>
        options.activity.track(deliver(mapping, options, records, checkpoint, shardId, signal)),
    });
    readers.set(shardId, reader);
    void reader.done.then(() => wake?.());
  };
  return {
    all: () => [...readers.values()],
    /** A child shard waits until its parent is done: the order of an item's changes crosses a split. */
    start(shards: Shard[]): void {
      for (const shardId of readers.keys()) if (isClosed(shardId)) readers.delete(shardId);
      const listed = new Set(shards.map(({ ShardId }) => ShardId));
      for (const { ShardId, ParentShardId } of shards) {
        if (ShardId === undefined || readers.has(ShardId) || isClosed(ShardId)) continue;
        if (ParentShardId !== undefined && listed.has(ParentShardId) && !isClosed(ParentShardId)) continue;
        startReader(ShardId);
      }
    },
    /** A shard has ended, reading was stopped, or it is time to look for shards again. */
    async untilShardsMayDiffer(): Promise<void> {
      if (signal.aborted || [...readers.keys()].some(isClosed)) return;
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        wake = resolve;
        timer = setTimeout(resolve, SHARD_REFRESH_MS);
      });
      clearTimeout(timer);
    },
  };
}

/** "Latest" is decided once: a restart before the first record must not skip what was written in between. */
async function pinStart(
  { startingPosition, table }: EventSourceMapping,
  client: DynamoDBStreamsClient,
  shards: Shard[],
  positions: StreamPositions,
): Promise<void> {
  for (const { ShardId: shardId } of shards) {
    if (shardId === undefined) continue;
    const fromStart = startingPosition === 'TRIM_HORIZON';
    positions.set(shardId, fromStart ? {} : await lastPosition(client, table.endpointStreamArn!, shardId));
  }
  await positions.saved();
}

async function lastPosition(
  client: DynamoDBStreamsClient,
  endpointStreamArn: string,
  shardId: string,
): Promise<ShardPosition> {
  let iterator: string | undefined = await iteratorAfter({ client, endpointStreamArn, shardId }, undefined);
  let position: ShardPosition = {};
  while (iterator !== undefined) {
    const page: { Records?: { dynamodb?: { SequenceNumber?: string } }[]; NextShardIterator?: string } =
      await client.send(new GetRecordsCommand({ ShardIterator: iterator }));
    const last = page.Records?.at(-1)?.dynamodb?.SequenceNumber;
    if (last !== undefined) position = { sequenceNumber: last };
    else if (page.NextShardIterator !== undefined) return position;
    iterator = page.NextShardIterator;
  }
  return { ...position, closed: true };
}

async function listShards(client: DynamoDBStreamsClient, streamArn: string): Promise<Shard[]> {
  const shards: Shard[] = [];
  let after: string | undefined;
  do {
    const { StreamDescription: stream }: { StreamDescription?: { Shards?: Shard[]; LastEvaluatedShardId?: string } } =
      await client.send(new DescribeStreamCommand({ StreamArn: streamArn, ExclusiveStartShardId: after }));
    shards.push(...(stream?.Shards ?? []));
    after = stream?.LastEvaluatedShardId;
  } while (after !== undefined);
  return shards;
}

function deliver(
  mapping: EventSourceMapping,
  options: StreamsOptions,
  records: StreamRecord[],
  checkpoint: (sequenceNumber: string) => void,
  shardId: string,
  signal: AbortSignal,
): Promise<void> {
  const discard = (failure: DiscardedBatch): void => {
    const functionArn = options.functions.find(mapping.functionName)?.arn ?? mapping.functionName;
    const record = discardedBatchRecord(failure, functionArn, shardId);
    if (mapping.onFailure !== undefined) options.events.send(mapping.onFailure, JSON.stringify(record));
    else options.onLog(mapping.functionName, `stream records dropped: ${JSON.stringify(record)}`);
  };
  const batch = { ...mapping, functions: options.functions, signal, retryDelayMs: options.retryDelayMs, discard };
  const [firstMs = 0, ...againMs] = options.chaos?.deliveries() ?? [];
  const late = firstMs > 0 ? [firstMs, ...againMs] : againMs;
  for (const afterMs of late) void options.activity.track(deliverLate(records, batch, afterMs));
  if (firstMs === 0) return deliverBatch(records, { ...batch, checkpoint });
  // What comes after it does not wait.
  checkpoint(records.at(-1)!.dynamodb.SequenceNumber);
  return Promise.resolve();
}

async function deliverLate(
  records: StreamRecord[],
  batch: Omit<BatchOptions, 'checkpoint'>,
  afterMs: number,
): Promise<void> {
  try {
    await delay(afterMs, undefined, { signal: batch.signal });
    await deliverBatch(records, { ...batch, checkpoint: () => {} });
  } catch (error) {
    if (!batch.signal.aborted && !(error instanceof HostStoppingError)) throw error;
  }
}
