import type { OpenContext, Position } from '../../shared/connect/connector.ts';
import type { DatabaseConnectionConfig } from '../../shared/connect/database-config.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { TableReader, Verification, VerifiedTable } from '../../shared/connect/verify.ts';
import {
  firstRowBytes,
  ignoredColumns,
  keepsDeleted,
  maxPageBytes,
  pageRowsOf,
  requireComparable,
  requireKey,
  templateOf,
} from '../../shared/sql/verify.ts';
import type { BinlogPlace } from './binlog.ts';
import { catalogOf } from './catalog.ts';
import { type MysqlCdcConfig, topicOf } from './cdc-config.ts';
import type { StreamOffset } from './cdc-offset.ts';
import { tablesOf } from './cdc-tables.ts';
import { type Connection, connect } from './client.ts';
import type { ZeroDate } from './column-type.ts';
import type { MysqlSinkConfig } from './config.ts';
import { conditionOf } from './key-condition.ts';
import { createPacketRows } from './packet-rows.ts';
import { partsOf } from './query-tables.ts';
import { type RowSchema, rowSchemaOf } from './row-schema.ts';
import { endOf, isBefore } from './server.ts';
import { keyTexts, pageQuery } from './snapshot.ts';
import { columnKey, tableOf } from './table.ts';

/** The tables of a source. */
export const verifySource = async (context: OpenContext<MysqlCdcConfig>): Promise<Verification> => {
  const { config } = context;
  const connection = await open(context);
  return {
    async tables() {
      const tables: VerifiedTable[] = [];
      for (const table of await tablesOf(connection, config)) {
        const { columns, keyColumns } = await schemaOf(connection, table, config.zeroDates);
        const [db, name] = partsOf(table);
        tables.push({
          table,
          topic: topicOf(config, table),
          source: { db, table: name },
          key: keyColumns.map(({ name }) => name),
          ...(config.skippedOperations.includes('d') ? { deletes: 'never' } : {}),
          columns: columns.map(({ name, type }) => ({ name, type: type.schema.type })),
        });
      }
      return tables;
    },
    async open({ table }) {
      const schema = await schemaOf(connection, table, config.zeroDates);
      return { ...readerOf(connection, table, schema), position: () => positionOf(connection) };
    },
    hasPassed: ({ position }, offsets) => (hasPassed(position as BinlogPlace, offsets) ? 'yes' : 'at_end'),
    ofChanges: true,
    close: () => connection.close(),
  };
};

/** The tables of a sink. */
export const verifySink = async (context: OpenContext<MysqlSinkConfig>): Promise<Verification> => {
  const { config } = context;
  const connection = await open(context);
  return {
    async open(table) {
      requireComparable(table, config);
      const named = { ...config, table: templateOf(table, config) };
      const { schema, name } = tableOf(table.topic, named, connection.server.database);
      const full = `${schema}.${name}`;
      const rows = await schemaOf(connection, full, 'null');
      const names = new Set(rows.columns.map((column) => columnKey(column.name)));
      const ignored = ignoredColumns(table, config, (column) => names.has(columnKey(column)), full);
      return readerOf(connection, full, rows, { ignored, keeps: keepsDeleted(table, config) }, table.key);
    },
    close: () => connection.close(),
  };
};

const open = ({ config, connector, signal }: OpenContext<DatabaseConnectionConfig>): Promise<Connection> =>
  connect(config, `sluice ${connector} verify`, signal);

const schemaOf = async (connection: Connection, table: string, zeroDates: ZeroDate): Promise<RowSchema> => {
  const found = (await catalogOf(connection, [table])).get(table);
  if (found === undefined) throw new ConnectError('NOT_FOUND', `there is no table ${table}, or it may not be read`);
  requireKey(table, found.key);
  const [database, name] = partsOf(table);
  const columns = found.columns.map(({ COLUMN_NAME, COLUMN_TYPE }) => ({ name: COLUMN_NAME, type: COLUMN_TYPE }));
  return rowSchemaOf({ database, name, columns, keyColumns: found.key }, { topicPrefix: '', zeroDates });
};

const positionOf = async (connection: Connection): Promise<BinlogPlace> => {
  const [server] = await connection.query<{ version: string }>('SELECT VERSION() AS version');
  const { file, pos } = await endOf(connection, /mariadb/i.test(server!.version));
  return { file, pos };
};

const readerOf = (
  connection: Connection,
  table: string,
  schema: RowSchema,
  { ignored = [], keeps = false }: Partial<Pick<TableReader, 'ignored' | 'keeps'>> = {},
  key: readonly string[] = schema.keyColumns.map(({ name }) => name),
): TableReader => {
  const [database, name] = partsOf(table);
  const target = { database, name, schema, rowBytes: 0 };
  const sought = key.map((one) => schema.columns.find((column) => columnKey(column.name) === columnKey(one))!);
  let rowBytes = firstRowBytes;
  return {
    table,
    ignored,
    keeps,
    async page(after) {
      const limit = pageRowsOf(rowBytes);
      const rows = createPacketRows(schema.columns, limit);
      const { sql, values } = pageQuery(target, schema.columns, {
        after: after === undefined ? null : [...after],
        to: null,
        limit,
      });
      let isWhole = true;
      await connection.rows(sql, values, (buffer, start, end) => {
        // What is over is read again with the next page.
        if (rows.bytes < maxPageBytes) rows.add(buffer, start, end);
        else isWhole = false;
      });
      const { count } = rows;
      if (count > 0) rowBytes = Math.max(1, rows.bytes / count);
      const more = !isWhole || count === limit;
      return {
        parts: [{ count, columns: rows.columns() }],
        ...(more ? { next: keyTexts(rows, schema, count - 1) } : {}),
      };
    },
    async lookUp(keys) {
      const where = keys.flatMap((texts) => conditionOf(sought, texts) ?? []);
      if (where.length === 0) return [];
      // Keys that the server takes for one, by their collation, are one row; a key is never that of two.
      const rows = createPacketRows(schema.columns, where.length);
      const { sql } = pageQuery(target, schema.columns, { after: null, to: null, limit: where.length, where });
      await connection.rows(sql, [], rows.add);
      return [{ count: rows.count, columns: rows.columns() }];
    },
  };
};

const hasPassed = (position: BinlogPlace, offsets: readonly Position<unknown>[]): boolean => {
  const stream = offsets.find(({ offset }) => (offset as StreamOffset).record !== undefined)?.offset as
    | StreamOffset
    | undefined;
  return stream !== undefined && !isBefore(stream, position);
};
