import { createHash } from 'node:crypto';
import { batchOfGroups, gatherBatch, type RecordBatch } from '../connect/batch.ts';
import { batchOf } from '../connect/build.ts';
import { type Position, partitionKey } from '../connect/connector.ts';
import { ConnectError, type ConnectError as Failure } from '../connect/errors.ts';
import { canonicalJson } from '../connect/json.ts';
import type { Header } from '../connect/record.ts';
import type { Value } from '../connect/schema.ts';
import type { ErrorPolicy } from '../connect/spec.ts';
import type { Stage } from '../connect/transform.ts';
import type { OffsetOwner } from '../state/offsets.ts';

/** A record that will not be delivered, and why. */
export interface Letter {
  readonly position: Position<unknown>;
  readonly topic: string;
  readonly stage: Stage;
  readonly error: Failure;
  /** The record before any transform; or its raw bytes where it never became one. */
  readonly record: { readonly batch: RecordBatch; readonly index: number } | { readonly raw: Uint8Array };
}

export interface DeadLettersOptions {
  readonly owner: OffsetOwner;
  readonly taskId: number;
  readonly policy: ErrorPolicy;
  /** Appends to the dead letter topic; absent where the policy names none. Resolves when it is durable. */
  readonly append?: (batch: RecordBatch) => Promise<void>;
  readonly onTolerated: (letter: Letter) => void;
}

/**
 * Carries out `errors.tolerance`: throws for the first letter where it is none; otherwise resolves when all are durable in the dead
 * letter topic. A letter's id is made of what it is, so that one written again after a crash shows once (DESIGN §3).
 */
export const deadLetters =
  ({ owner, taskId, policy, append, onTolerated }: DeadLettersOptions) =>
  async (letters: readonly Letter[]): Promise<void> => {
    const first = letters[0];
    if (first === undefined) return;
    if (policy.tolerance === 'none')
      throw new ConnectError(
        'RECORD_REJECTED',
        `${first.error.message} (topic ${first.topic}, partition ${partitionKey(first.position.partition)}, offset ${canonicalJson(first.position.offset as Value)}, stage ${first.stage}); errors.tolerance is none: mend the record or set errors.tolerance to all`,
        { cause: first.error },
      );
    if (append !== undefined && policy.deadLetterTopic !== undefined) {
      const groups = letters.flatMap(
        (letter) => letterBatch(letter, policy.deadLetterTopic!, letterHeaders(letter, owner, taskId)).groups,
      );
      await append(batchOfGroups(groups));
    }
    for (const letter of letters) onTolerated(letter);
  };

const letterBatch = (letter: Letter, topic: string, headers: readonly Header[]): RecordBatch => {
  const { record } = letter;
  if ('raw' in record) return batchOf([{ topic, value: record.raw, valueSchema: { type: 'bytes' }, headers }]);
  const one = gatherBatch(record.batch, Uint32Array.of(record.index));
  return batchOfGroups(
    one.groups.map((group) => ({ ...group, topic, headers: [[...(group.headers?.[0] ?? []), ...headers]] })),
  );
};

/** Records that share an offset are told apart by what they hold. */
const contentOf = (record: Letter['record']): readonly Value[] => {
  if ('raw' in record) return [record.raw];
  return Array.from(gatherBatch(record.batch, Uint32Array.of(record.index)), ({ key, value }) => [key, value]);
};

/** Kafka Connect's headers, so that its tools read our letters; `id` is ours. No stack: a letter is read by people. */
const letterHeaders = (
  { position, topic, stage, error, record }: Letter,
  owner: OffsetOwner,
  taskId: number,
): readonly Header[] => {
  const partition = partitionKey(position.partition);
  const offset = canonicalJson(position.offset as Value);
  const identity = [owner.connector, owner.incarnation, partition, offset, stage, ...contentOf(record)];
  const id = createHash('sha256').update(canonicalJson(identity)).digest('hex');
  const cause = error.cause instanceof Error ? error.cause : error;
  const headers = {
    id: id.slice(0, 32),
    topic,
    partition,
    offset,
    'connector.name': owner.connector,
    'task.id': String(taskId),
    stage,
    'exception.class.name': cause.name,
    'exception.message': error.message,
  };
  return Object.entries(headers).map(([key, value]) => ({ key: `__connect.errors.${key}`, value }));
};
