import { envelopeSchema } from '../../shared/connect/envelope.ts';
import type { Field, StructSchema } from '../../shared/connect/schema.ts';
import { topicOf } from '../../shared/connect/table-names.ts';
import type { PostgresCdcConfig } from './cdc-config.ts';
import type { Relation, RelationColumn } from './pgoutput.ts';
import { type CatalogType, type ValueType, valueTypeOf } from './value-type.ts';

/** What the catalog knows of a table besides its relation message. */
export interface TableFacts {
  readonly types: ReadonlyMap<number, CatalogType>;
  /** Names of the primary key's columns, asked for only where the message does not say them. */
  readonly primaryKey: readonly string[];
}

/** A field of a row, and which column of the relation it is. */
export interface RowField {
  readonly name: string;
  readonly index: number;
  readonly type: ValueType;
}

/** How the changes of a table become records. Shared by all batches, so that their schemas are the same objects. */
export interface TableLayout {
  readonly relation: Relation;
  readonly topic: string;
  /** All fields that are told, in the table's order. */
  readonly fields: readonly RowField[];
  /** Those of the key; [] where the table has none. */
  readonly key: readonly RowField[];
  readonly keySchema: StructSchema;
  readonly valueSchema: StructSchema;
  /** What a record weighs besides its texts: numbers of fixed width, and what `source` repeats. */
  readonly fixedBytes: number;
}

export const sourceSchema: StructSchema = {
  type: 'struct',
  name: 'io.debezium.connector.postgresql.Source',
  fields: [
    { name: 'version', schema: { type: 'string' } },
    { name: 'connector', schema: { type: 'string' } },
    { name: 'name', schema: { type: 'string' } },
    { name: 'ts_ms', schema: { type: 'int64', optional: true } },
    { name: 'snapshot', schema: { type: 'string' } },
    { name: 'db', schema: { type: 'string' } },
    { name: 'schema', schema: { type: 'string' } },
    { name: 'table', schema: { type: 'string' } },
    { name: 'txId', schema: { type: 'int64', optional: true } },
    { name: 'lsn', schema: { type: 'int64', optional: true } },
  ],
};

/** Every field may be null: a relation message does not say which may not, and the key's are told of a deleted row. */
const fieldOf = ({ name, type }: RowField, optional: boolean): Field => ({
  name,
  schema: optional ? { ...type.schema, optional } : type.schema,
});

/** Numbers of a row before, after and in the key; three of the envelope; the texts of `source`. */
const fixedBytesOf = (fields: readonly RowField[], key: readonly RowField[], texts: number): number =>
  8 * (2 * fields.length + key.length) + 3 * 8 + texts;

export const layoutOf = (
  relation: Relation,
  { types, primaryKey }: TableFacts,
  config: Pick<PostgresCdcConfig, 'topicPrefix' | 'topic' | 'excludeColumns'>,
): TableLayout => {
  const table = `${relation.schema}.${relation.table}`;
  const isKey = ({ name, isIdentity }: RelationColumn) =>
    relation.identity === 'f' ? primaryKey.includes(name) : isIdentity;
  const fields = relation.columns.map((column, index) => ({
    name: column.name,
    index,
    isKey: isKey(column),
    type: valueTypeOf(column.type, column.modifier, (oid) => types.get(oid)),
  }));
  const told = fields.filter(({ name, isKey }) => isKey || !config.excludeColumns.includes(`${table}.${name}`));
  const key = told.filter(({ isKey }) => isKey);
  const name = `${config.topicPrefix}.${table}`;
  return {
    relation,
    topic: topicOf(config, table),
    fields: told,
    key,
    keySchema: { type: 'struct', name: `${name}.Key`, fields: key.map((field) => fieldOf(field, false)) },
    valueSchema: envelopeSchema(
      name,
      told.map((field) => fieldOf(field, !field.isKey)),
      sourceSchema,
    ),
    fixedBytes: fixedBytesOf(told, key, `${name}${relation.schema}${relation.table}`.length + 64),
  };
};
