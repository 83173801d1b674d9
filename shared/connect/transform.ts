import { gatherBatch, type RecordBatch } from './batch.ts';
import { batchOf, type RecordInput } from './build.ts';
import type { Rejected } from './connector.ts';
import { ConnectError, toConnectError } from './errors.ts';
import type { ConnectRecord } from './record.ts';

/** Where a record failed, as Kafka Connect names it in `__connect.errors.stage`. */
export type Stage = 'TASK_POLL' | 'KEY_CONVERTER' | 'VALUE_CONVERTER' | 'TRANSFORMATION' | 'TASK_PUT';

/** What became of a batch. `origin[i]` is the index in the input of output record i, ascending; absent: nothing was added or left out. */
export interface Transformed {
  readonly batch: RecordBatch;
  readonly origin?: Uint32Array;
  readonly rejected?: readonly Rejected[];
}

/**
 * One step between source and sink. It must be deterministic: a batch is transformed again after a crash.
 * What it throws fails the whole batch; to blame single records, name them in `rejected`.
 */
export interface Transform {
  readonly name: string;
  readonly stage: Stage;
  apply(batch: RecordBatch): Transformed;
}

/** A transform from a function over records: one record, several, or null to drop it. What it throws blames that record. */
export const recordTransform = (
  name: string,
  apply: (record: ConnectRecord) => RecordInput | readonly RecordInput[] | null,
  stage: Stage = 'TRANSFORMATION',
): Transform => ({
  name,
  stage,
  apply(batch) {
    const made: RecordInput[] = [];
    const origins: number[] = [];
    const rejected = new Map<number, Rejected>();
    let index = 0;
    for (const record of batch) {
      try {
        const result = apply(record);
        for (const out of result === null ? [] : Array.isArray(result) ? result : [result as RecordInput]) {
          made.push(out);
          origins.push(index);
        }
      } catch (cause) {
        rejected.set(index, { index, error: transformError(name, cause) });
      }
      index++;
    }
    const misfits = new Set<number>();
    const built = batchOf(made, (at, error) => {
      misfits.add(at);
      const origin = origins[at]!;
      rejected.set(origin, { index: origin, error: transformError(name, error) });
    });
    // A record of which one part is bad is rejected whole.
    const kept = origins.filter((_, at) => !misfits.has(at));
    const rows = Uint32Array.from(kept.keys()).filter((at) => !rejected.has(kept[at]!));
    const whole = rows.length === kept.length;
    return {
      batch: whole ? built : gatherBatch(built, rows),
      origin: Uint32Array.from(whole ? kept : Array.from(rows, (at) => kept[at]!)),
      rejected: [...rejected.values()].sort((a, b) => a.index - b.index),
    };
  },
});

const transformError = (name: string, thrown: unknown): ConnectError => {
  const cause = toConnectError(thrown);
  return new ConnectError('TRANSFORM_FAILED', `transform ${name}: ${cause.message}`, { blame: 'row', cause: thrown });
};

export interface StagedRejection extends Rejected {
  readonly stage: Stage;
}

/** Applies transforms in order. Indices of the result refer to the first batch. */
export const applyChain = (
  transforms: readonly Transform[],
  batch: RecordBatch,
): { batch: RecordBatch; origin?: Uint32Array; rejected: readonly StagedRejection[] } => {
  const rejected: StagedRejection[] = [];
  let current = batch;
  let origin: Uint32Array | undefined;
  for (const transform of transforms) {
    if (current.count === 0) break;
    const step = transform.apply(current);
    const before = origin;
    for (const one of step.rejected ?? [])
      rejected.push({ ...one, index: before === undefined ? one.index : before[one.index]!, stage: transform.stage });
    if (step.origin !== undefined) origin = before === undefined ? step.origin : step.origin.map((i) => before[i]!);
    current = step.batch;
  }
  return { batch: current, rejected, ...(origin === undefined ? {} : { origin }) };
};
