import { envelopeSchema } from '../../shared/connect/envelope.ts';
import type { Field, StructSchema } from '../../shared/connect/schema.ts';
import { type MysqlCdcConfig, topicOf } from './cdc-config.ts';
import { type ColumnType, columnTypeOf } from './column-type.ts';

export interface SourceColumn {
  readonly name: string;
  readonly type: ColumnType;
}

/** How the rows of a table become records. */
export interface RowSchema {
  readonly topicPrefix: string;
  readonly topic: string;
  readonly columns: readonly SourceColumn[];
  readonly keyColumns: readonly SourceColumn[];
  readonly key: StructSchema | undefined;
  readonly envelope: StructSchema;
}

export interface TableDefinition {
  readonly database: string;
  readonly name: string;
  readonly columns: readonly { readonly name: string; readonly type: string }[];
  readonly keyColumns: readonly string[];
}

const text = { type: 'string' } as const;

/** As Debezium's MySQL connector has it, without what tells of Debezium itself. */
const sourceSchema: StructSchema = {
  type: 'struct',
  name: 'io.debezium.connector.mysql.Source',
  fields: [
    { name: 'connector', schema: text },
    { name: 'name', schema: text },
    { name: 'ts_ms', schema: { type: 'int64', optional: true } },
    { name: 'snapshot', schema: { type: 'boolean' } },
    { name: 'db', schema: text },
    { name: 'table', schema: text },
    { name: 'gtid', schema: { ...text, optional: true } },
    { name: 'file', schema: { ...text, optional: true } },
    { name: 'pos', schema: { type: 'int64', optional: true } },
    { name: 'row', schema: { type: 'int32', optional: true } },
  ],
};

export const rowSchemaOf = (
  table: TableDefinition,
  config: Pick<MysqlCdcConfig, 'topic' | 'topicPrefix' | 'zeroDates'>,
): RowSchema => {
  const { topicPrefix, zeroDates } = config;
  const qualified = `${table.database}.${table.name}`;
  const name = `${topicPrefix}.${qualified}`;
  const columns = table.columns.map(({ name, type }) => ({ name, type: columnTypeOf(type, zeroDates) }));
  const keyColumns = table.keyColumns.map((name) => columns.find((column) => column.name === name)!);
  const keyFields = keyColumns.map(({ name, type }): Field => ({ name, schema: type.schema }));
  // The binlog does not say which columns may be null: all but those of the key may.
  const fields = columns.map(
    ({ name, type }): Field => ({
      name,
      schema: table.keyColumns.includes(name) ? type.schema : { ...type.schema, optional: true },
    }),
  );
  return {
    topicPrefix,
    topic: topicOf(config, qualified),
    columns,
    keyColumns,
    key: keyFields.length === 0 ? undefined : { type: 'struct', name: `${name}.Key`, fields: keyFields },
    envelope: envelopeSchema(name, fields, sourceSchema),
  };
};
