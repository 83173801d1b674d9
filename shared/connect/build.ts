import {
  type BytesColumn,
  batchOfGroups,
  type Column,
  columnKind,
  holdsJson,
  MISSING,
  NULL,
  type RecordBatch,
  type RecordGroup,
  type Side,
  VALUE,
} from './batch.ts';
import { type ConnectError, rowError } from './errors.ts';
import { decimalText, isPlainObject, misfit } from './fit.ts';
import { writeJson } from './json.ts';
import type { Header } from './record.ts';
import { any, type Field, isStruct, type Schema, sameSchema, string, type Value } from './schema.ts';

/** A record as a connector or a transform makes it. Without a schema, a struct's fields and every other value are `any`. */
export interface RecordInput {
  readonly topic: string;
  readonly key?: Value;
  readonly value: Value;
  readonly keySchema?: Schema | undefined;
  readonly valueSchema?: Schema | undefined;
  readonly headers?: readonly Header[];
  readonly timestampMs?: number;
  /** Why it is no record, where a source could not make one: it is rejected, with `value` as it was read. */
  readonly refused?: ConnectError;
}

/**
 * Records as columns. A record that does not fit its schema is left out and told to `reject` with its index and a row error;
 * without `reject` the error is thrown.
 */
export const batchOf = (
  records: readonly RecordInput[],
  reject: (index: number, error: Error) => void = (_index, error) => {
    throw error;
  },
): RecordBatch => {
  const groups: RecordGroup[] = [];
  let run: Run | undefined;
  let members: RecordInput[] = [];
  const close = () => {
    if (members.length > 0) groups.push(groupOf(members));
    members = [];
  };
  for (const [index, record] of records.entries()) {
    const problem = recordMisfit(record);
    const error = record.refused ?? (problem && rowError(`record ${index} of topic ${record.topic}: ${problem}`));
    if (error) {
      reject(index, error);
      continue;
    }
    if (run === undefined || !joinRun(run, record)) {
      close();
      run = { first: record, ...formsOf(record) };
    }
    members.push(record);
  }
  close();
  return batchOfGroups(groups);
};

const recordMisfit = ({ key, value, keySchema, valueSchema, refused }: RecordInput): string | undefined => {
  if (refused !== undefined) return undefined;
  return (
    (keySchema === undefined || key === null || key === undefined ? undefined : misfit(keySchema, key, 'key')) ??
    (valueSchema === undefined || value === null ? undefined : misfit(valueSchema, value, ''))
  );
};

/** Undeclared values of one form share a group; a null fits either form. */
type Form = 'struct' | 'string' | 'any' | 'null';

const formOf = (value: Value | undefined, isKey: boolean): Form => {
  if (value === null || value === undefined) return 'null';
  if (isPlainObject(value)) return 'struct';
  return isKey && typeof value === 'string' ? 'string' : 'any';
};

/** What the records of the current run are: decided by the first that is not null. */
interface Run {
  readonly first: RecordInput;
  key: Form;
  value: Form;
}

const formsOf = (record: RecordInput) => ({ key: formOf(record.key, true), value: formOf(record.value, false) });

/** Whether the record belongs to the run; if so, a form that was still open is decided by it. */
const joinRun = (run: Run, next: RecordInput): boolean => {
  const { first } = run;
  if (first.topic !== next.topic || !sameSchema(first.keySchema, next.keySchema)) return false;
  if (!sameSchema(first.valueSchema, next.valueSchema)) return false;
  const forms = formsOf(next);
  const fits = (side: 'key' | 'value') => run[side] === 'null' || forms[side] === 'null' || run[side] === forms[side];
  if (first.keySchema === undefined && !fits('key')) return false;
  if (first.valueSchema === undefined && !fits('value')) return false;
  if (run.key === 'null') run.key = forms.key;
  if (run.value === 'null') run.value = forms.value;
  return true;
};

const groupOf = (run: readonly RecordInput[]): RecordGroup => {
  const first = run[0]!;
  const hasKeys = first.keySchema !== undefined || run.some((r) => r.key !== null && r.key !== undefined);
  return {
    topic: first.topic,
    count: run.length,
    ...(hasKeys
      ? {
          key: sideOf(
            run.map((r) => r.key ?? null),
            first.keySchema,
            true,
          ),
        }
      : {}),
    value: sideOf(
      run.map((r) => r.value),
      first.valueSchema,
      false,
    ),
    ...(run.some((r) => (r.headers?.length ?? 0) > 0) ? { headers: run.map((r) => r.headers ?? []) } : {}),
    ...(run.some((r) => r.timestampMs !== undefined)
      ? { timestampsMs: Float64Array.from(run, (r) => r.timestampMs ?? Number.NaN) }
      : {}),
  };
};

/** The columns of values that are known to fit `schema`. */
const sideOf = (values: readonly Value[], declared: Schema | undefined, isKey: boolean): Side => {
  const schema = declared ?? undeclaredSchema(values, isKey);
  const nulls = values.includes(null) ? Uint8Array.from(values, (v) => (v === null ? 1 : 0)) : undefined;
  const columns = isStruct(schema) ? fieldColumns(schema.fields, values) : [columnOf('', schema, values)];
  return { schema, columns, ...(nulls === undefined ? {} : { nulls }) };
};

const fieldColumns = (fields: readonly Field[], values: readonly Value[]): readonly Column[] => {
  const structs = values.map((value) => (isPlainObject(value) ? value : {}));
  return fields.map(({ name, schema }) => {
    // Only a name that every object inherits needs the slower question whose it is.
    const isInherited = name in {};
    const read = (struct: { readonly [field: string]: Value }) =>
      isInherited && !Object.hasOwn(struct, name) ? undefined : struct[name];
    return columnOf(name, schema, structs.map(read));
  });
};

const undeclaredSchema = (values: readonly Value[], isKey: boolean): Schema => {
  const sample = values.find((v) => v !== null);
  if (isKey && typeof sample === 'string') return string;
  if (!isPlainObject(sample)) return any;
  const names = new Set<string>();
  for (const value of values) if (isPlainObject(value)) for (const name of Object.keys(value)) names.add(name);
  return { type: 'struct', fields: Array.from(names, (name) => ({ name, schema: any })) };
};

/** One column of values that fit `schema`; undefined is a missing field. */
export const columnOf = (name: string, schema: Schema, values: readonly (Value | undefined)[]): Column => {
  const allThere = values.every((v) => v !== null && v !== undefined);
  const state = allThere
    ? {}
    : { state: Uint8Array.from(values, (v) => (v === undefined ? MISSING : v === null ? NULL : VALUE)) };
  const common = { name, schema, ...state };
  if (isStruct(schema))
    return { ...common, schema, kind: 'struct', columns: fieldColumns(schema.fields, values.map(valueOrNull)) };
  switch (columnKind(schema)) {
    case 'int32':
      return { ...common, kind: 'int32', values: Int32Array.from(values, (v) => (v as number | null) ?? 0) };
    case 'int64':
      return { ...common, kind: 'int64', values: BigInt64Array.from(values, (v) => BigInt((v as bigint | null) ?? 0)) };
    case 'float64':
      return { ...common, kind: 'float64', values: Float64Array.from(values, (v) => (v as number | null) ?? 0) };
    case 'boolean':
      return { ...common, kind: 'boolean', values: Uint8Array.from(values, (v) => (v === true ? 1 : 0)) };
    case 'bytes':
      return { ...common, kind: 'bytes', ...packed(schema, values) };
  }
};

const valueOrNull = (value: Value | undefined): Value => value ?? null;

/** The bytes of variable length of a column, one after the other. */
const packed = (
  schema: Schema,
  values: readonly (Value | undefined)[],
): Pick<BytesColumn, 'data' | 'starts' | 'ends'> => {
  const parts = values.map((value) => {
    if (value === null || value === undefined) return '';
    if (schema.type === 'bytes') return value as Uint8Array;
    if (holdsJson(schema)) return writeJson(value);
    return schema.type === 'decimal' ? decimalText(value)! : (value as string);
  });
  // All texts at once: a call per value costs more than its bytes.
  const data = schema.type === 'bytes' ? Buffer.concat(parts.map(bytesOf)) : Buffer.from(parts.join(''));
  const places = new Uint32Array(values.length + 1);
  const units = parts.reduce((sum, part) => sum + part.length, 0);
  // Where each unit is one byte, and that is the rule, lengths need not be counted again.
  const lengthOf = (part: string | Uint8Array) => (units === data.length ? part.length : Buffer.byteLength(part));
  for (const [i, part] of parts.entries()) places[i + 1] = places[i]! + lengthOf(part);
  return { data, starts: places.subarray(0, values.length), ends: places.subarray(1) };
};

const bytesOf = (part: string | Uint8Array): Uint8Array => (typeof part === 'string' ? Buffer.from(part) : part);
