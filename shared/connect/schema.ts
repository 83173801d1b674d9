import { writeJson } from './json.ts';

/**
 * Canonical types. Each has one in-memory form (see `Value`) and one canonical text:
 * - int8 … int32, float32, float64: number; int64: bigint
 * - decimal: its digits as text, exactly as written ("12.50"); `precision` and `scale` are optional
 * - date "2024-02-29", time "23:59:59.123456", timestamp "2024-02-29T23:59:59.123456Z" (UTC; `local` timestamps have no Z: a wall clock without zone)
 * - uuid: 36 lower-case characters; bytes: Uint8Array
 * - any: a JSON value of unknown type, its text kept exactly. What nobody declared is `any`; nothing is guessed from first rows.
 */
export const primitiveTypes = [
  'int8',
  'int16',
  'int32',
  'int64',
  'float32',
  'float64',
  'boolean',
  'string',
  'bytes',
  'decimal',
  'date',
  'time',
  'timestamp',
  'uuid',
  'any',
] as const;

export type PrimitiveType = (typeof primitiveTypes)[number];

interface SchemaCommon {
  /** May be null or missing. */
  readonly optional?: boolean;
  readonly default?: Value;
  /** Logical name, such as `io.debezium.time.MicroTimestamp`; carried along, not interpreted. */
  readonly name?: string;
}

export interface PrimitiveSchema extends SchemaCommon {
  readonly type: PrimitiveType;
  readonly precision?: number;
  readonly scale?: number;
  readonly local?: boolean;
}

export interface ArraySchema extends SchemaCommon {
  readonly type: 'array';
  readonly items: Schema;
}

export interface MapSchema extends SchemaCommon {
  readonly type: 'map';
  readonly values: Schema;
}

export interface StructSchema extends SchemaCommon {
  readonly type: 'struct';
  readonly fields: readonly Field[];
}

export interface Field {
  readonly name: string;
  readonly schema: Schema;
}

export type Schema = PrimitiveSchema | ArraySchema | MapSchema | StructSchema;

/**
 * A number of an `any` value that a JavaScript number cannot hold exactly. `text` is the number as it was written;
 * an integer comes as bigint instead.
 */
export class ExactNumber {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
  toString(): string {
    return this.text;
  }
}

export type Value =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | ExactNumber
  | readonly Value[]
  | { readonly [field: string]: Value };

export type Struct = { readonly [field: string]: Value };

export const any: PrimitiveSchema = { type: 'any', optional: true };
export const string: PrimitiveSchema = { type: 'string' };

export const isStruct = (schema: Schema): schema is StructSchema => schema.type === 'struct';

/** Structural equality, with a fast path for the shared object that sources should reuse from batch to batch. */
export const sameSchema = (a: Schema | undefined, b: Schema | undefined): boolean =>
  a === b || (a !== undefined && b !== undefined && writeJson(a as never) === writeJson(b as never));

/** A schema as a person writes it: `decimal(15,2)`, `timestamp local`, `array<string>`, with `?` where it is optional. */
export const describeSchema = (schema: Schema): string => {
  const optional = schema.optional ? '?' : '';
  switch (schema.type) {
    case 'array':
      return `array<${describeSchema(schema.items)}>${optional}`;
    case 'map':
      return `map<${describeSchema(schema.values)}>${optional}`;
    case 'struct':
      return `struct<${schema.fields.map((f) => `${f.name}: ${describeSchema(f.schema)}`).join(', ')}>${optional}`;
    case 'decimal':
      return schema.precision === undefined
        ? `decimal${optional}`
        : `decimal(${schema.precision},${schema.scale ?? 0})${optional}`;
    case 'timestamp':
      return schema.local ? `timestamp local${optional}` : `timestamp${optional}`;
    default:
      return `${schema.type}${optional}`;
  }
};
