import { type ConnectError, rowError } from '../../shared/connect/errors.ts';
import { flatGroup } from '../../shared/sql/query-group.ts';
import type { QueryRows } from '../../shared/sql/query-page.ts';
import type { QueryReader, Statement } from '../../shared/sql/query-reader.ts';
import { fieldsOf, keyOf } from '../../shared/sql/query-table.ts';
import type { Connection } from './client.ts';
import { readCopy } from './copy-binary.ts';
import type { PostgresQueryConfig } from './query-config.ts';
import { dialect } from './query-dialect.ts';
import { findTables, type PostgresColumn, type PostgresTable } from './query-tables.ts';
import { planRanges } from './snapshot-plan.ts';
import { valueColumn } from './value-column.ts';

export const createReader = (connection: Connection, config: PostgresQueryConfig): QueryReader<PostgresTable> => ({
  connection,
  dialect,
  async look() {
    const [server] = await connection.query<{ system: string }>(
      'SELECT system_identifier::text AS system FROM pg_control_system()',
    );
    return { identity: server!.system, tables: await findTables(connection, config) };
  },
  rows: (table, statement) => readRows(connection, config, table, statement),
  async bounds({ from, columns, primaryKey }) {
    const key = primaryKey.map((name) => columns.find((column) => column.name === name)!);
    return (await planRanges(connection, { from, key, bytes: await bytesOf(connection, from) })).bounds;
  },
});

/** Of the table and its partitions; a view has none. */
const bytesOf = async (connection: Connection, from: string): Promise<number> => {
  const [row] = await connection.query<{ bytes: number | null }>(
    `SELECT sum(pg_table_size(oid))::float8 AS bytes FROM pg_class
     WHERE oid = $1::regclass OR oid IN (SELECT relid FROM pg_partition_tree($1::regclass))`,
    [from],
  );
  return row!.bytes ?? 0;
};

const readRows = async (
  connection: Connection,
  config: PostgresQueryConfig,
  table: PostgresTable,
  { cursor, topic, maxBytes, sql }: Statement,
): Promise<QueryRows> => {
  const fields = fieldsOf(table, config);
  const width = fields.length + cursor.parts.length;
  const copy = `COPY (${sql(fields.map(({ text }) => text))}) TO STDOUT (FORMAT binary)`;
  const { page, slots, count, isCut } = await readCopy(connection.copyOut(copy), width, maxBytes);
  const stride = 2 * width;
  const refused = new Map<number, ConnectError>();
  const columns = fields.map(({ name, type }, i) =>
    valueColumn(name, type.schema, type, { page, slots, stride, at: 2 * i, count }, (row, problem) => {
      if (!refused.has(row)) refused.set(row, rowError(`column ${name}: ${problem}`));
    }),
  );
  const text = (row: number, column: number): string | null => {
    const at = row * stride + 2 * column;
    return slots[at]! < 0 ? null : page.toString('utf8', slots[at], slots[at + 1]);
  };
  return {
    count,
    isCut,
    bytes: page.length,
    group: flatGroup(columns, count, topic, keyOf(table, config)),
    refused,
    cursorText: (row, part) => text(row, fields.length + part),
    raw: (row) => Buffer.from(JSON.stringify(fields.map((field, i) => [field.name, told(field, text(row, i))]))),
  };
};

/** Its Z has been put in the place of its offset, which is two characters longer. */
const told = ({ type }: PostgresColumn, text: string | null): string | null =>
  type.reading === 'timestamptz' && text !== null ? text.replace(/(?<=Z)00$/, '') : text;
