import { ConnectError } from '../../shared/connect/errors.ts';
import { flatGroup } from '../../shared/sql/query-group.ts';
import type { QueryRows } from '../../shared/sql/query-page.ts';
import type { QueryReader, Statement } from '../../shared/sql/query-reader.ts';
import { fieldsOf, keyOf } from '../../shared/sql/query-table.ts';
import { type Connection, quote } from './client.ts';
import { createPacketRows } from './packet-rows.ts';
import type { MysqlQueryConfig } from './query-config.ts';
import { dialect } from './query-dialect.ts';
import { findTables, type MysqlTable, partsOf } from './query-tables.ts';
import type { SourceColumn } from './row-schema.ts';
import { planTable } from './snapshot.ts';

export const createReader = (connection: Connection, config: MysqlQueryConfig): QueryReader<MysqlTable> => ({
  connection,
  dialect,
  async look() {
    await requireZone(connection, config.dbTimezone);
    const identity = await identityOf(connection);
    return { identity, tables: await findTables(connection, config) };
  },
  rows: (table, statement) => readRows(connection, config, table, statement),
  async bounds({ name: table, columns, primaryKey }) {
    const [database, name] = partsOf(table!);
    const keyColumns = primaryKey.map((key) => columns.find((column) => column.name === key)!);
    return (await planTable(connection, { database, name, schema: { keyColumns } })).bounds;
  },
});

const readRows = async (
  connection: Connection,
  config: MysqlQueryConfig,
  table: MysqlTable,
  { cursor, topic, maxRows, maxBytes, sql }: Statement,
): Promise<QueryRows> => {
  const fields = fieldsOf(table, config);
  const selected = fields.map(({ name, form }) => dialect.text(`q.${quote(name)}`, form));
  // The cursor's values as the server writes them.
  const texts = cursor.parts.map(
    ({ name, form }): SourceColumn => ({
      name,
      type: { schema: { type: form === 'bytes' ? 'bytes' : 'string' }, read: String },
    }),
  );
  const rows = createPacketRows([...fields, ...texts], maxRows);
  let isCut = false;
  let isFull = false;
  await connection.rows(sql(selected), [], (buffer, start, end) => {
    if (isFull) {
      isCut = true;
      return;
    }
    isFull = rows.bytes >= maxBytes;
    rows.add(buffer, start, end);
  });
  const columns = rows.columns().slice(0, fields.length);
  return {
    count: rows.count,
    isCut,
    bytes: rows.bytes,
    group: flatGroup(columns, rows.count, topic, keyOf(table, config)),
    refused: rows.refused,
    cursorText: (row, part) => rows.text(row, fields.length + part),
    raw: (row) => Buffer.from(JSON.stringify(fields.map(({ name }, i) => [name, rows.text(row, i)]))),
  };
};

/** As change capture has it. */
const identityOf = async (connection: Connection): Promise<string> => {
  const variables = await connection.query<{ Variable_name: string; Value: string }>(
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_id')",
  );
  const values = new Map(variables.map(({ Variable_name, Value }) => [Variable_name.toLowerCase(), Value]));
  // MariaDB has no uuid.
  return values.get('server_uuid') ?? values.get('server_id')!;
};

/** Without the zone's rules the server would answer null, and no row would ever be read. */
const requireZone = async (connection: Connection, zone: string): Promise<void> => {
  if (zone === 'UTC') return;
  const [row] = await connection.query<{ known: string | null }>(
    "SELECT CONVERT_TZ('2000-01-01', '+00:00', ?) AS known",
    [zone],
  );
  if (row!.known === null)
    throw new ConnectError(
      'CONFIG_INVALID',
      `dbTimezone: the server does not know ${zone}: load its time zones (mysql_tzinfo_to_sql), or give an offset like +02:00`,
    );
};
