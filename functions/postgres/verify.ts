import type { RecordGroup, StructColumn } from '../../shared/connect/batch.ts';
import { freeBuffer } from '../../shared/connect/buffers.ts';
import type { OpenContext, Position } from '../../shared/connect/connector.ts';
import type { DatabaseConnectionConfig } from '../../shared/connect/database-config.ts';
import { tableFilter, topicOf } from '../../shared/connect/table-names.ts';
import type { KeyTexts, RowPart, TableReader, Verification, VerifiedTable } from '../../shared/connect/verify.ts';
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
import type { PostgresCdcConfig } from './cdc-config.ts';
import type { StreamOffset } from './cdc-offset.ts';
import type { Layouts } from './cdc-session.ts';
import { type Connection, connect } from './client.ts';
import type { PostgresSinkConfig } from './config.ts';
import { createCopyRows, type RowTaker } from './copy-rows.ts';
import { conditionOf } from './key-condition.ts';
import { outputSettings } from './output-settings.ts';
import { parseLsn } from './pgoutput.ts';
import { publishedTables } from './publication.ts';
import type { SourceNames } from './row-columns.ts';
import { slotNames } from './slot.ts';
import { createSnapshotGroup, type SnapshotGroup, type SnapshotRows } from './snapshot-rows.ts';
import { findTable, rowsQuery, type SnapshotTable, selectRows } from './snapshot-table.ts';
import { tableOf } from './table.ts';
import { needsCatalog, noFacts, readFacts } from './table-facts.ts';
import { layoutOf, type TableLayout } from './table-layout.ts';

/** The tables of a source, as its publication has them. */
export const verifySource = async (context: OpenContext<PostgresCdcConfig>): Promise<Verification> => {
  const { config } = context;
  const { publication } = slotNames(config, context);
  const connection = await open(context);
  const layouts = createLayouts(connection, config);
  return {
    async tables() {
      const names = await publishedTables(connection, publication, tableFilter(config));
      const [database] = await connection.query<{ db: string }>('SELECT current_database() AS db');
      const tables: VerifiedTable[] = [];
      for (const table of names.toSorted()) {
        const { key, layout } = await findTable(connection, layouts, table, publication);
        const { schema, table: name } = layout.relation;
        tables.push({
          table,
          topic: topicOf(config, table),
          source: { db: database!.db, schema, table: name },
          // As records have it, which need not be the index's order.
          key: key.length === 0 ? [] : layout.key.map(({ name }) => name),
          ...(config.skippedOperations.includes('d') ? { deletes: 'never' } : {}),
          columns: layout.fields.map(({ name, type }) => ({ name, type: type.schema.type })),
        });
      }
      return tables;
    },
    async open({ table }) {
      const found = await findTable(connection, layouts, table, publication);
      return { ...readerOf(connection, found), position: () => positionOf(connection) };
    },
    hasPassed: ({ position }, offsets) => (hasPassed(String(position), offsets) ? 'yes' : 'at_end'),
    ofChanges: true,
    close: () => connection.close(),
  };
};

/** The tables of a sink. */
export const verifySink = async (context: OpenContext<PostgresSinkConfig>): Promise<Verification> => {
  const { config } = context;
  const connection = await open(context);
  const layouts = createLayouts(connection, { topicPrefix: '', excludeColumns: [] });
  return {
    async open(table) {
      requireComparable(table, config);
      const { schema, name } = tableOf(table.topic, { ...config, table: templateOf(table, config) });
      const found = await findTable(connection, layouts, `${schema}.${name}`, '');
      const names = new Set(found.layout.fields.map((field) => field.name));
      const ignored = ignoredColumns(table, config, (column) => names.has(column), found.name);
      return readerOf(connection, found, { ignored, keeps: keepsDeleted(table, config) }, table.key);
    },
    close: () => connection.close(),
  };
};

const open = async ({ config, connector, signal }: OpenContext<DatabaseConnectionConfig>): Promise<Connection> => {
  const connection = await connect(config, `sluice ${connector} verify`, signal);
  // Pages come in the key's order by its index: a sort of the table would be made for each. A policy that hides rows is to be told.
  await connection.run(
    `${outputSettings}; SET enable_sort = off; SET enable_incremental_sort = off; SET row_security = off`,
  );
  return connection;
};

const createLayouts = (
  connection: Connection,
  config: Pick<PostgresCdcConfig, 'topicPrefix' | 'topic' | 'excludeColumns'>,
): Layouts => {
  const known = new Map<number, TableLayout>();
  return {
    layoutOf(relation) {
      return known.get(relation.oid) ?? (needsCatalog(relation) ? null : layoutOf(relation, noFacts, config));
    },
    async learn(relation) {
      known.set(relation.oid, layoutOf(relation, await readFacts(connection, relation), config));
    },
  };
};

/** What records say of their source, where nobody reads it. */
const noNames: SourceNames = { version: '', name: '', db: '' };

const positionOf = async (connection: Connection): Promise<string> => {
  const [row] = await connection.query<{ lsn: string }>('SELECT pg_current_wal_insert_lsn()::text AS lsn');
  return row!.lsn;
};

const readerOf = (
  connection: Connection,
  table: SnapshotTable,
  { ignored = [], keeps = false }: Partial<Pick<TableReader, 'ignored' | 'keeps'>> = {},
  key: readonly string[] = table.key.map(({ name }) => name),
): TableReader => {
  requireKey(table.name, table.key);
  const { fields } = table.layout;
  const sought = key.map((one) => fields.find(({ name }) => name === one)!);
  let rowBytes = firstRowBytes;
  let last: Taken | undefined;

  const read = async (query: string): Promise<Taken> => {
    last?.free();
    const taker = createTaker(table);
    await createCopyRows(connection.copyOut(`COPY (${query}) TO STDOUT`), fields.length).read(taker);
    last = taker.finish();
    return last;
  };

  return {
    table: table.name,
    ignored,
    keeps,
    async page(after) {
      const limit = pageRowsOf(rowBytes);
      const { parts, count, bytes, isWhole, lastKey } = await read(
        `${rowsQuery(table, after === undefined ? null : [...after], null)} LIMIT ${limit}`,
      );
      if (count > 0) rowBytes = Math.max(1, bytes / count);
      const more = !isWhole || count === limit;
      return { parts, ...(more ? { next: lastKey! } : {}) };
    },
    async lookUp(keys) {
      const where = keys.flatMap((texts) => conditionOf(sought, texts) ?? []);
      return where.length === 0 ? [] : (await read(selectRows(table, [`(${where.join(' OR ')})`]))).parts;
    },
  };
};

/** The rows of one query. */
interface Taken {
  readonly parts: readonly RowPart[];
  readonly groups: readonly RecordGroup[];
  /** Rows that are no records. */
  readonly bad: number;
  readonly count: number;
  readonly bytes: number;
  /** All of them were taken. */
  readonly isWhole: boolean;
  readonly lastKey: KeyTexts | undefined;
  free(): void;
}

export const createTaker = (table: SnapshotTable, source: SourceNames = noNames): RowTaker & { finish(): Taken } => {
  const done: SnapshotRows[] = [];
  const pages: Buffer[] = [];
  let current: SnapshotGroup | undefined;
  let count = 0;
  let bytes = 0;
  let isWhole = true;
  const settle = () => {
    if (current !== undefined) done.push(current.finish());
    current = undefined;
  };
  return {
    take(page, row, size) {
      // What is over is read again with the next page.
      if (bytes >= maxPageBytes) isWhole = false;
      if (!isWhole) return true;
      if (current?.page !== page) {
        settle();
        current = createSnapshotGroup(table, page, source);
      }
      current.add(row);
      count++;
      bytes += size;
      return true;
    },
    leave(page) {
      settle();
      pages.push(page);
    },
    finish() {
      settle();
      const end = done.at(-1);
      const groups = done.flatMap(({ group }) => group ?? []);
      return {
        parts: groups.map(({ count: rows, value }) => ({
          count: rows,
          columns: (value.columns[1] as StructColumn).columns,
        })),
        groups,
        bad: done.reduce((sum, { bad }) => sum + bad.size, 0),
        count,
        bytes,
        isWhole,
        lastKey: end?.keyOf(end.count - 1),
        free() {
          for (const rows of done) rows.free();
          for (const page of pages) freeBuffer(page);
        },
      };
    },
  };
};

const hasPassed = (position: string, offsets: readonly Position<unknown>[]): boolean => {
  const stream = offsets.map(({ offset }) => offset as Partial<StreamOffset>).find(({ lsn }) => lsn !== undefined);
  return stream?.lsn !== undefined && parseLsn(stream.lsn) >= parseLsn(position);
};
