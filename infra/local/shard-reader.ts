import {
  type DynamoDBStreamsClient,
  GetRecordsCommand,
  GetShardIteratorCommand,
  TrimmedDataAccessException,
} from '@aws-sdk/client-dynamodb-streams';
import type { EventFilter } from './event-filter.ts';
import { HostStoppingError } from './functions.ts';
import { type StreamRecord, toStreamRecord } from './stream-event.ts';
import type { StreamPositions } from './stream-positions.ts';

export interface ShardReader {
  /** Resolves when the shard is read to its end, or reading was stopped. */
  readonly done: Promise<void>;
  nudge(): void;
  /** Resolves when a look that began after this call found nothing new and nothing waits to be delivered. */
  caughtUp(): Promise<void>;
}

export interface ShardReaderOptions {
  client: DynamoDBStreamsClient;
  shardId: string;
  endpointStreamArn: string;
  /** As functions see it. */
  streamArn: string;
  positions: StreamPositions;
  filter: EventFilter;
  batchSize: number;
  batchingWindowMs: number;
  signal: AbortSignal;
  deliver: (records: StreamRecord[], checkpoint: (sequenceNumber: string) => void) => Promise<void>;
  onLog: (line: string) => void;
}

const PAGE_RECORDS = 1_000;
/** The pause after a look that found nothing grows, so that an idle stream costs little. */
const PAUSE_MS = { first: 20, growth: 1.5, longest: 200 };
/** Of the event as JSON: below Lambda's 6 MB with room for what surrounds the items. */
const MAX_BATCH_BYTES = 5_500_000;

export function startShardReader(options: ShardReaderOptions): ShardReader {
  const { positions, shardId, signal } = options;
  let waiting: (() => void)[] = [];
  let wake: (() => void) | undefined;
  let pauseMs = PAUSE_MS.first;
  let readTo = positions.get(shardId)?.sequenceNumber;
  const buffer: StreamRecord[] = [];
  let bufferedSinceMs = 0;
  signal.addEventListener('abort', () => wake?.(), { once: true });

  async function pause(ms: number): Promise<void> {
    if (signal.aborted) return;
    const sinceMs = Date.now();
    await new Promise<void>((resolve) => {
      let timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        const leftMs = signal.aborted ? 0 : sinceMs + PAUSE_MS.first - Date.now();
        timer = setTimeout(resolve, Math.min(ms, Math.max(0, leftMs)));
      };
    });
    wake = undefined;
  }

  /** However often it is called, two looks are the shortest pause apart. */
  function nudge(): void {
    pauseMs = PAUSE_MS.first;
    wake?.();
  }

  async function read(): Promise<void> {
    let iterator: string | undefined;
    while (!signal.aborted) {
      const asking = waiting;
      waiting = [];
      try {
        iterator ??= await iteratorAfter(options, readTo);
        const page = await options.client.send(
          new GetRecordsCommand({ ShardIterator: iterator, Limit: PAGE_RECORDS }),
          {
            abortSignal: signal,
          },
        );
        const records = page.Records ?? [];
        iterator = page.NextShardIterator;
        take(records.map((record) => toStreamRecord(record, options.streamArn, shardId)));
        await deliverDue(iterator === undefined);
        if (records.length === 0 && buffer.length === 0) for (const resolve of asking.splice(0)) resolve();
        if (iterator === undefined) {
          positions.set(shardId, { closed: true });
          return;
        }
        if (records.length === 0) await rest();
      } catch (error) {
        if (signal.aborted || error instanceof HostStoppingError) return;
        iterator = undefined;
        await recover(error as Error);
      } finally {
        waiting.push(...asking);
      }
    }
  }

  function take(records: StreamRecord[]): void {
    if (records.length === 0) return;
    pauseMs = PAUSE_MS.first;
    readTo = sequenceOf(records.at(-1)!);
    const matching = records.filter(options.filter);
    if (buffer.length === 0) bufferedSinceMs = Date.now();
    buffer.push(...matching);
    if (buffer.length === 0) positions.set(shardId, { sequenceNumber: readTo });
  }

  async function deliverDue(shardEnded: boolean): Promise<void> {
    while (buffer.length > 0) {
      const due =
        shardEnded || buffer.length >= options.batchSize || Date.now() - bufferedSinceMs >= options.batchingWindowMs;
      if (!due) return;
      const batch = buffer.splice(0, batchLength(buffer, options.batchSize));
      await options.deliver(batch, (sequenceNumber) => positions.set(shardId, { sequenceNumber }));
      bufferedSinceMs = Date.now();
    }
  }

  async function rest(): Promise<void> {
    const windowMs =
      buffer.length > 0 ? bufferedSinceMs + options.batchingWindowMs - Date.now() : Number.POSITIVE_INFINITY;
    await pause(Math.max(1, Math.min(pauseMs, windowMs)));
    pauseMs = Math.min(pauseMs * PAUSE_MS.growth, PAUSE_MS.longest);
  }

  /** What was read and not delivered is read again. */
  async function recover(error: Error): Promise<void> {
    buffer.length = 0;
    readTo = positions.get(shardId)?.sequenceNumber;
    if (error instanceof TrimmedDataAccessException) {
      options.onLog(
        `records after ${readTo} in ${shardId} are gone (kept for 24 hours only); reading goes on with the oldest kept`,
      );
      readTo = undefined;
      positions.set(shardId, {});
      return;
    }
    options.onLog(`cannot read ${shardId} of ${options.streamArn}, trying again: ${error.name}: ${error.message}`);
    await pause(PAUSE_MS.longest);
  }

  const done = read().finally(() => {
    for (const resolve of waiting.splice(0)) resolve();
  });
  let ended = false;
  void done.finally(() => {
    ended = true;
  });
  return {
    done,
    nudge,
    caughtUp: () =>
      new Promise((resolve) => {
        if (ended) {
          resolve();
          return;
        }
        waiting.push(resolve);
        nudge();
      }),
  };
}

export async function iteratorAfter(
  options: Pick<ShardReaderOptions, 'client' | 'endpointStreamArn' | 'shardId'>,
  sequenceNumber: string | undefined,
): Promise<string> {
  const answer = await options.client.send(
    new GetShardIteratorCommand({
      StreamArn: options.endpointStreamArn,
      ShardId: options.shardId,
      ...(sequenceNumber === undefined
        ? { ShardIteratorType: 'TRIM_HORIZON' }
        : { ShardIteratorType: 'AFTER_SEQUENCE_NUMBER', SequenceNumber: sequenceNumber }),
    }),
  );
  if (!answer.ShardIterator) throw new Error(`${options.endpointStreamArn} gave no iterator for ${options.shardId}`);
  return answer.ShardIterator;
}

function batchLength(records: StreamRecord[], batchSize: number): number {
  let bytes = 0;
  for (const [index, record] of records.entries()) {
    // The type marks and the envelope about double an item.
    bytes += record.dynamodb.SizeBytes * 2 + 1_000;
    if (index > 0 && (index >= batchSize || bytes > MAX_BATCH_BYTES)) return index;
  }
  return records.length;
}

function sequenceOf(record: StreamRecord): string {
  return record.dynamodb.SequenceNumber;
}
