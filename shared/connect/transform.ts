import { batchOfGroups, gatherBatch, type RecordBatch, type RecordGroup } from './batch.ts';
import { batchOf, type RecordInput } from './build.ts';
import type { Rejected } from './connector.ts';
import { controlRecord, controlsOf, isControl } from './control.ts';
import { ConnectError, toConnectError } from './errors.ts';
import { isPlainObject } from './fit.ts';
import type { ConnectRecord } from './record.ts';
import { isStruct, type Schema, type StructSchema, sameSchema, type Value } from './schema.ts';

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
  /** It knows control records. Without it they pass by the transform, and an `end` says no more how many records came before it. */
  readonly takesControl?: true;
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

/**
 * The record with one field of its value set, and with that field in its schema: in its place where it was there already, else at the
 * end. The value must be a struct: a tombstone has no fields.
 */
export const withField = (record: ConnectRecord, name: string, schema: Schema, value: Value): RecordInput => {
  const { valueSchema } = record;
  if (!isPlainObject(record.value)) throw new Error(`the value is no struct, it has no field ${name}`);
  return {
    ...record,
    value: { ...record.value, [name]: value },
    valueSchema:
      valueSchema !== undefined && isStruct(valueSchema) ? structWith(valueSchema, name, schema) : valueSchema,
  };
};

/** By the schema without the field: records of one batch share it, and must go on sharing one. */
const extended = new WeakMap<StructSchema, Map<string, { readonly schema: Schema; readonly struct: StructSchema }>>();

const structWith = (struct: StructSchema, name: string, schema: Schema): StructSchema => {
  const known = extended.get(struct) ?? new Map();
  const made = known.get(name);
  if (made !== undefined && sameSchema(made.schema, schema)) return made.struct;
  const field = { name, schema };
  const at = struct.fields.findIndex((one) => one.name === name);
  const fields = at === -1 ? [...struct.fields, field] : struct.fields.with(at, field);
  const result = { ...struct, fields };
  extended.set(struct, known.set(name, { schema, struct: result }));
  return result;
};

const transformError = (name: string, thrown: unknown): ConnectError => {
  const cause = toConnectError(thrown);
  return new ConnectError('TRANSFORM_FAILED', `transform ${name}: ${cause.message}`, { blame: 'row', cause: thrown });
};

export interface StagedRejection extends Rejected {
  readonly stage: Stage;
}

const isControlGroup = ({ value }: RecordGroup): boolean => isControl(value.schema);

/** The transform on what stands between control records. */
const applyAround = (transform: Transform, batch: RecordBatch): Transformed => {
  if (transform.takesControl === true || !batch.groups.some(isControlGroup)) return transform.apply(batch);
  const groups: RecordGroup[] = [];
  const origin: number[] = [];
  const rejected: Rejected[] = [];
  let start = 0;
  for (const [isControls, stretch] of stretchesOf(batch.groups)) {
    const before = batchOfGroups(stretch);
    const step: Transformed = isControls ? { batch: batchOfGroups(stretch.map(uncounted)) } : transform.apply(before);
    groups.push(...step.batch.groups);
    for (const index of step.origin ?? new Array(before.count).keys()) origin.push(start + index);
    for (const one of step.rejected ?? []) rejected.push({ ...one, index: start + one.index });
    start += before.count;
  }
  return { batch: batchOfGroups(groups), origin: Uint32Array.from(origin), rejected };
};

const stretchesOf = (groups: readonly RecordGroup[]): readonly (readonly [boolean, readonly RecordGroup[]])[] => {
  const stretches: [boolean, RecordGroup[]][] = [];
  for (const group of groups) {
    const last = stretches.at(-1);
    if (last?.[0] === isControlGroup(group)) last[1].push(group);
    else stretches.push([isControlGroup(group), [group]]);
  }
  return stretches;
};

const uncounted = (group: RecordGroup): RecordGroup => {
  const controls = controlsOf(group).map((one) => (one.event === 'end' ? { ...one, records: undefined } : one));
  return batchOf(controls.map((one) => controlRecord(group.topic, one))).groups[0]!;
};

/** What a sink gets that does not know control records. */
export const withoutControl: Transform = {
  name: 'withoutControl',
  stage: 'TRANSFORMATION',
  takesControl: true,
  apply(batch) {
    if (!batch.groups.some(isControlGroup)) return { batch };
    const origin: number[] = [];
    let start = 0;
    for (const group of batch.groups) {
      if (!isControlGroup(group)) for (let row = 0; row < group.count; row++) origin.push(start + row);
      start += group.count;
    }
    return {
      batch: batchOfGroups(batch.groups.filter((group) => !isControlGroup(group))),
      origin: Uint32Array.from(origin),
    };
  },
};

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
    const step = applyAround(transform, current);
    const before = origin;
    for (const one of step.rejected ?? [])
      rejected.push({ ...one, index: before === undefined ? one.index : before[one.index]!, stage: transform.stage });
    if (step.origin !== undefined) origin = before === undefined ? step.origin : step.origin.map((i) => before[i]!);
    current = step.batch;
  }
  return { batch: current, rejected, ...(origin === undefined ? {} : { origin }) };
};
