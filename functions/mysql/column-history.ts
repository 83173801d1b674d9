import * as z from 'zod';
import { type BinlogPlace, openBinlog } from './binlog.ts';
import type { Catalog } from './catalog.ts';
import type { Server } from './server.ts';

/*
 * Servers before MySQL 8.0 and MariaDB 10.5 have no names of columns in their binlog, only values in the order of the columns at that time.
 * Rows that were written before an ALTER TABLE would be misread by the columns of today. So the columns of the tables travel with the place
 * in the log, as what holds there; a statement that may have altered a table ends that. Behind it the columns are those of today, if no
 * other such statement follows up to the end of the log, which is looked through for that.
 */

export const ColumnHistory = z.record(
  z.string(),
  z.strictObject({
    columns: z.array(
      z.tuple([
        z.string().describe('Its name.'),
        z.string().describe('Its type, as information_schema writes it.'),
        z.string().nullable().describe('Its character set.'),
        z.string().nullable().describe('Its collation.'),
      ]),
    ),
    key: z.array(z.string()).describe('The columns of the primary key, in its order.'),
  }),
);
export type ColumnHistory = z.output<typeof ColumnHistory>;

export const historyOf = (catalog: Catalog): ColumnHistory =>
  Object.fromEntries(
    Array.from(catalog, ([table, { columns, key }]) => [
      table,
      {
        columns: columns.map(({ COLUMN_NAME, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME }) => [
          COLUMN_NAME,
          COLUMN_TYPE,
          CHARACTER_SET_NAME,
          COLLATION_NAME,
        ]),
        key: [...key],
      },
    ]),
  );

export const catalogIn = (history: ColumnHistory): Catalog =>
  new Map(
    Object.entries(history).map(([table, { columns, key }]) => [
      table,
      {
        columns: columns.map(([COLUMN_NAME, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME]) => ({
          ...{ COLUMN_NAME, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME },
          COLUMN_COMMENT: '',
        })),
        key,
      },
    ]),
  );

/** The columns that these tables have had since a place: those of today, of tables that no statement behind it may have altered. */
export const columnsSince = async (
  server: Pick<Server, 'catalog' | 'login'>,
  place: BinlogPlace,
  tables: readonly string[],
  signal: AbortSignal,
): Promise<Catalog> => {
  const columns = new Map(await server.catalog(tables));
  const log = openBinlog({
    ...{ login: server.login, serverId: undefined, place, follows: false, hasNames: false, catalog: columns, signal },
    isIncluded: () => false,
    tableNamed: () => undefined,
    lookUp: async () => undefined,
  });
  try {
    for (let part = await log.next(); part !== undefined; part = await log.next())
      if (part.kind === 'altered') columns.delete(part.table);
    return columns;
  } finally {
    log.close();
  }
};
