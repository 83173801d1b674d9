import { freeGroup } from '../connect/batch.ts';
import { partitionKey } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import type { QueryConfig, QueryOffset } from '../connect/query-config.ts';
import type { Schema } from '../connect/schema.ts';
import { topicOf } from '../connect/table-names.ts';
import type { KeyTexts, Passed, TableReader, Verification, VerifiedTable } from '../connect/verify.ts';
import { cursorOfRow, type QueryRows } from './query-page.ts';
import type { QueryReader } from './query-reader.ts';
import { backwards, type Cursor, conditionsOf, cursorOf, selectOf, whereOf } from './query-statement.ts';
import { fieldsOf, keyOf, nameOf, type QueryColumn, type QueryTable, requireTables } from './query-table.ts';
import { firstRowBytes, maxPageBytes, pageRowsOf, requireKey } from './verify.ts';

/** A place behind what a query source has read by then, as far as its mode can tell. */
type QueryPlace =
  /** bulk: a reading that ends later has read the rows again. */
  | { readonly atMs: number }
  /** The cursor's values in the last row that is to be read by now; null: there is none. */
  | { readonly last: readonly string[] | null };

type TypedColumn = QueryColumn & { readonly type: { readonly schema: Schema } };

/**
 * The tables of a source by queries. Of their rows those are looked at that the mode reads by now: those younger than the timestamp's delay,
 * or without a timestamp, are left out as the source leaves them out. What the mode does not read again (a row that changed behind the
 * cursor, or came late) is there, and so it is found where the destination has not got it.
 */
export const verifyQuery = <C extends TypedColumn>(
  config: QueryConfig,
  reader: QueryReader<QueryTable<C>>,
  conditionOf: (key: readonly C[], texts: KeyTexts) => string | undefined,
): Verification => {
  const { dialect, connection } = reader;

  const look = async (): Promise<readonly QueryTable<C>[]> => {
    if (config.query !== undefined)
      throw new ConnectError(
        'CONFIG_INVALID',
        'the rows of a `query` are of its own making: only those of `tables` can be compared',
      );
    const { tables } = await reader.look();
    requireTables(config, tables);
    return tables;
  };

  const find = async (name: string): Promise<QueryTable<C>> => {
    const table = (await look()).find((one) => one.name === name);
    if (table !== undefined) return table;
    throw new ConnectError('NOT_FOUND', `${name} is none of the tables to read`);
  };

  return {
    async tables() {
      return (await look()).map((table) => ({
        table: nameOf(table),
        topic: topicOf(config, nameOf(table)),
        key: keyOf(table, config),
        columns: fieldsOf(table, config).map(({ name, type }) => ({ name, type: type.schema.type })),
        deletes: config.mode === 'bulk' && config.runs ? 'with runs' : 'never',
      }));
    },
    async open({ table, key }: VerifiedTable) {
      return readerOf(config, reader, await find(table), key, conditionOf);
    },
    async hasPassed({ table: { table: name }, position }, offsets): Promise<Passed> {
      const own = partitionKey({ server: config.topicPrefix, table: name });
      const stored = offsets.find(({ partition }) => partitionKey(partition) === own)?.offset as QueryOffset | null;
      const place = position as QueryPlace;
      if ('atMs' in place) return (stored?.endedMs ?? 0) > place.atMs ? 'yes' : 'no';
      if (place.last === null) return 'yes';
      const table = await find(name);
      const cursor = cursorOf(table, config, dialect);
      // Rows of a run that is open are not shown yet.
      if (stored?.after?.length !== cursor.parts.length || stored.to !== undefined) return 'no';
      const open = conditionsOf(cursor, { after: stored.after, to: place.last }, dialect);
      const [row] = await connection.query<{ found: unknown }>(
        `SELECT EXISTS (SELECT 1 FROM ${table.from} AS q${whereOf(config, open)}) AS found`,
      );
      return Number(row!.found) === 1 ? 'no' : 'yes';
    },
    close: () => connection.close(),
  };
};

const readerOf = <C extends TypedColumn>(
  config: QueryConfig,
  { dialect, rows: read }: QueryReader<QueryTable<C>>,
  table: QueryTable<C>,
  key: readonly string[],
  conditionOf: (key: readonly C[], texts: KeyTexts) => string | undefined,
): TableReader => {
  requireKey(nameOf(table), key);
  const topic = topicOf(config, nameOf(table));
  const cursor = cursorOf(table, config, dialect);
  // By their key, whatever the source reads them by.
  const byKey = cursorOf(table, { ...config, mode: 'bulk' }, dialect);
  const sought = key.map((name) => table.columns.find((column) => column.name === name)!);
  // What the source reads at all, and by now: no row without a number or a time.
  const bounds = [
    ...conditionsOf(cursor, { after: null }, dialect),
    ...(config.mode === 'bulk' ? [] : [backwards(cursor).condition]),
  ];
  let rowBytes = firstRowBytes;
  let last: QueryRows | undefined;

  const select = async (order: Cursor, conditions: readonly string[], maxRows: number, maxBytes: number) => {
    if (last !== undefined) freeGroup(last.group);
    last = await read(table, {
      ...{ maxRows, maxBytes, topic, cursor: order },
      sql: (fields) => selectOf(table, fields, order, config, conditions, maxRows),
    });
    return last;
  };

  return {
    table: nameOf(table),
    ignored: [],
    keeps: false,
    async page(after) {
      const limit = pageRowsOf(rowBytes);
      const conditions = [...bounds, ...conditionsOf(byKey, { after: after ?? null }, dialect)];
      const { group, count, bytes, isCut } = await select(byKey, conditions, limit, maxPageBytes);
      if (count > 0) rowBytes = Math.max(1, bytes / count);
      const more = isCut || count === limit;
      return {
        parts: [{ count, columns: group.value.columns }],
        ...(more ? { next: cursorOfRow(last!, count - 1, byKey, table) } : {}),
      };
    },
    async lookUp(keys) {
      const where = keys.flatMap((texts) => conditionOf(sought, texts) ?? []);
      if (where.length === 0) return [];
      const conditions = [...bounds, `(${where.join(' OR ')})`];
      const { group, count } = await select(byKey, conditions, where.length, Number.MAX_SAFE_INTEGER);
      return [{ count, columns: group.value.columns }];
    },
    async position(): Promise<QueryPlace> {
      if (config.mode === 'bulk') return { atMs: Date.now() };
      const fromEnd = { ...cursor, parts: cursor.parts.map((part) => ({ ...part, order: `${part.sql} DESC` })) };
      // A row without a value stops the source by itself.
      const isThere = cursor.parts.map(({ sql }) => `${sql} IS NOT NULL`);
      const rows = await select(fromEnd, [...bounds, ...isThere], 1, maxPageBytes);
      return { last: rows.count === 0 ? null : cursorOfRow(rows, 0, cursor, table) };
    },
  };
};
