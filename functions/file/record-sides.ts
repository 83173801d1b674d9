import { type Column, MISSING, NULL, type Side } from '../../shared/connect/batch.ts';
import type { StructSchema } from '../../shared/connect/schema.ts';
import { type FieldType, type FieldTypeText, parseFieldType } from './field-type.ts';
import type { Misfit, Rows } from './rows.ts';

/** What a config declares about records with fields. */
export interface Declared {
  readonly types: ReadonlyMap<string, FieldType>;
  readonly keyFields: readonly string[];
  /** The fields with a type, then the key fields without one. */
  readonly names: readonly string[];
  /** Bytes that a row's typed columns take, beyond those of its text. */
  readonly rowBytes: number;
}

/** Of a config that its schema has accepted. */
export const declare = (
  fields: { readonly [name: string]: FieldTypeText },
  keyFields: readonly string[] = [],
): Declared => {
  const types = new Map(Object.entries(fields).map(([name, text]) => [name, parseFieldType(text) as FieldType]));
  let rowBytes = 0;
  for (const { schema, pattern } of types.values())
    rowBytes += schema.type === 'string' || schema.type === 'any' ? 0 : pattern === undefined ? 8 : 20;
  return { types, keyFields, names: [...new Set([...types.keys(), ...keyFields])], rowBytes };
};

export const isDeclared = (declared: Declared): boolean => declared.names.length > 0;

type Sides = (columns: readonly Column[], rows: Rows, misfit: Misfit) => { readonly key?: Side; readonly value: Side };

/** Makes the value of all columns and the key of the key fields' columns; a record without its key is a misfit. */
export const recordSides = (keyFields: readonly string[]): Sides => {
  let schema: StructSchema | undefined;
  let keySchema: StructSchema | undefined;
  return (columns, rows, misfit) => {
    schema = schemaOf(schema, columns);
    const value = { schema, columns };
    if (keyFields.length === 0) return { value };
    const keys = keyFields.map((name) => columns.find((column) => column.name === name)!);
    keySchema = schemaOf(keySchema, keys);
    for (const key of keys) refuseWithoutKey(key, rows.count, misfit);
    return { key: { schema: keySchema, columns: keys }, value };
  };
};

/** The last schema while the columns are the same: a shared object is cheap to compare. */
const schemaOf = (last: StructSchema | undefined, columns: readonly Column[]): StructSchema =>
  last?.fields.length === columns.length &&
  last.fields.every((field, i) => field.name === columns[i]!.name && field.schema === columns[i]!.schema)
    ? last
    : { type: 'struct', fields: columns.map(({ name, schema }) => ({ name, schema })) };

const refuseWithoutKey = ({ name, state }: Column, count: number, misfit: Misfit): void => {
  if (state === undefined) return;
  for (let row = 0; row < count; row++) {
    if (state[row] === NULL) misfit(row, `${name}: is a key field and null`);
    else if (state[row] === MISSING) misfit(row, `${name}: is a key field and missing`);
  }
};
