import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Functions, InvocationResult } from './functions.ts';
import { TooManyRequestsException } from './functions.ts';
import { continueTrace } from './lineage.ts';
import type { StreamRecord } from './stream-event.ts';

export interface BatchOptions {
  functionName: string;
  reportBatchItemFailures: boolean;
  bisectBatchOnFunctionError: boolean;
  /** -1: until the records expire. */
  maximumRetryAttempts: number;
  maximumRecordAgeMs: number;
  functions: Functions;
  signal: AbortSignal;
  retryDelayMs: { first: number; longest: number };
  /** Everything up to and with this sequence number is done with. */
  checkpoint: (sequenceNumber: string) => void;
  discard: (failure: DiscardedBatch) => void;
}

export interface DiscardedBatch {
  condition: 'RetryAttemptsExhausted' | 'RecordAgeExceeded';
  records: StreamRecord[];
  invokeCount: number;
  requestId: string;
}

interface Attempted {
  records: StreamRecord[];
  invokeCount: number;
  retries: number;
  requestId: string;
}

/** Resolves when every record was processed or discarded, in order. Until then the shard waits, as it does on AWS. */
export async function deliverBatch(records: StreamRecord[], options: BatchOptions): Promise<void> {
  const pending: Attempted[] = [{ records, invokeCount: 0, retries: 0, requestId: '' }];
  for (let batch = pending.shift(); batch; batch = pending.shift()) {
    const young = discardOld(batch, options);
    if (young.records.length === 0) continue;
    const next = await attempt(young, options);
    pending.unshift(...next);
    const retried = next[0]?.retries ?? 0;
    if (retried > batch.retries) await delay(backoffMs(retried, options), undefined, { signal: options.signal });
  }
}

/** What is left to do after one invocation. */
async function attempt(batch: Attempted, options: BatchOptions): Promise<Attempted[]> {
  const result = await invoke(batch.records, options);
  const tried = { ...batch, invokeCount: batch.invokeCount + 1, requestId: result.requestId };
  const failedAt = firstFailed(tried.records, result, options.reportBatchItemFailures);
  if (failedAt > 0) options.checkpoint(sequenceOf(tried.records[failedAt - 1]!));
  const rest = { ...tried, records: tried.records.slice(failedAt) };
  if (rest.records.length === 0) return [];
  // A function that reported where it failed has split the batch itself.
  if (options.bisectBatchOnFunctionError && failedAt === 0 && rest.records.length > 1) return halves(rest);
  if (options.maximumRetryAttempts >= 0 && rest.retries >= options.maximumRetryAttempts) {
    discard({ condition: 'RetryAttemptsExhausted', ...rest }, options);
    return [];
  }
  return [{ ...rest, retries: rest.retries + 1 }];
}

/** Splitting is no retry. */
function halves(batch: Attempted): Attempted[] {
  const middle = Math.ceil(batch.records.length / 2);
  return [
    { ...batch, records: batch.records.slice(0, middle) },
    { ...batch, records: batch.records.slice(middle) },
  ];
}

async function invoke(records: StreamRecord[], options: BatchOptions): Promise<InvocationResult> {
  const { traceId } = continueTrace(undefined, options.functionName);
  for (;;) {
    try {
      return await options.functions.invoke(options.functionName, {
        payload: JSON.stringify({ Records: records }),
        requestId: randomUUID(),
        traceId,
        whenBusy: 'wait',
      });
    } catch (error) {
      // Throttled is not failed: the mapping waits and the record's age decides.
      if (!(error instanceof TooManyRequestsException)) throw error;
      await delay(options.retryDelayMs.longest, undefined, { signal: options.signal });
    }
  }
}

/** The index of the first record that is not done; the number of records where all are. */
function firstFailed(records: StreamRecord[], result: InvocationResult, reportBatchItemFailures: boolean): number {
  if (result.error) return 0;
  if (!reportBatchItemFailures) return records.length;
  const answer = JSON.parse(result.payload) as { batchItemFailures?: { itemIdentifier?: unknown }[] } | null;
  const failures = answer?.batchItemFailures ?? [];
  // An identifier that is missing or unknown fails the whole batch, as on AWS.
  const indexes = failures.map(({ itemIdentifier }) =>
    records.findIndex((record) => sequenceOf(record) === itemIdentifier),
  );
  return Math.max(0, Math.min(records.length, ...indexes));
}

function discardOld(batch: Attempted, options: BatchOptions): Attempted {
  if (options.maximumRecordAgeMs < 0) return batch;
  const oldestMs = Date.now() - options.maximumRecordAgeMs;
  const firstYoung = batch.records.findIndex(
    (record) => record.dynamodb.ApproximateCreationDateTime * 1000 >= oldestMs,
  );
  const old = firstYoung < 0 ? batch.records : batch.records.slice(0, firstYoung);
  if (old.length === 0) return batch;
  discard({ condition: 'RecordAgeExceeded', ...batch, records: old }, options);
  return { ...batch, records: batch.records.slice(old.length) };
}

function discard(failure: DiscardedBatch, options: BatchOptions): void {
  options.discard(failure);
  options.checkpoint(sequenceOf(failure.records.at(-1)!));
}

function backoffMs(retries: number, { retryDelayMs }: BatchOptions): number {
  return Math.min(retryDelayMs.first * 2 ** (retries - 1), retryDelayMs.longest);
}

function sequenceOf(record: StreamRecord): string {
  return record.dynamodb.SequenceNumber;
}

/** What AWS sends to the on-failure destination of a stream: where the records are, never the records. */
export function discardedBatchRecord(failure: DiscardedBatch, functionArn: string, shardId: string) {
  const { records } = failure;
  const at = (record: StreamRecord | undefined) =>
    new Date((record?.dynamodb.ApproximateCreationDateTime ?? 0) * 1000).toISOString();
  return {
    requestContext: {
      requestId: failure.requestId,
      functionArn,
      condition: failure.condition,
      approximateInvokeCount: failure.invokeCount,
    },
    ...(failure.invokeCount > 0
      ? { responseContext: { statusCode: 200, executedVersion: '$LATEST', functionError: 'Unhandled' } }
      : {}),
    version: '1.0',
    timestamp: new Date().toISOString(),
    DDBStreamBatchInfo: {
      shardId,
      startSequenceNumber: sequenceOf(records[0]!),
      endSequenceNumber: sequenceOf(records.at(-1)!),
      approximateArrivalOfFirstRecord: at(records[0]),
      approximateArrivalOfLastRecord: at(records.at(-1)),
      batchSize: records.length,
      streamArn: records[0]?.eventSourceARN,
    },
  };
}
