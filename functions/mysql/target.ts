import type { RecordGroup } from '../../shared/connect/batch.ts';
import { evolveStaging } from '../../shared/sql/evolve.ts';
import { type Check, checksOf, type LaidColumn, type Layout } from '../../shared/sql/layout.ts';
import type { Target, Targets } from '../../shared/sql/plan.ts';
import { rememberTargets } from '../../shared/sql/targets.ts';
import { columnCheck } from './checks.ts';
import { type Connection, quote } from './client.ts';
import type { MysqlSinkConfig } from './config.ts';
import { columnKey, makeStaging, prepareTable, sqlName, type Table, tableOf } from './table.ts';
import { isText } from './types.ts';

/** A table that is ready for records of one layout, and the statements that write them. */
export interface MysqlTarget extends Target {
  readonly table: Table;
  readonly checks: ReadonlyMap<LaidColumn, Check>;
  /** The columns of the key among `columns`, in the order of the primary key; [] where rows are inserted. */
  readonly key: readonly LaidColumn[];
  /** Whether a column of the table is one of text. */
  isText(column: LaidColumn): boolean;
  /** Whether rows that are there are updated, and none is made. */
  readonly updatesOnly: boolean;
  /** What stands before and behind the rows of an INSERT. */
  readonly insert: Buffer;
  readonly update: Buffer;
}

const namesOf = (columns: readonly LaidColumn[]) => columns.map(({ name }) => name);

export const createTargets = (connection: Connection, config: MysqlSinkConfig): Targets<MysqlTarget> => {
  const tables = new Map<string, Table>();

  const tableFor = async (
    { topic }: RecordGroup,
    { columns, key, table: template = config.table }: Layout,
    staging?: string,
  ): Promise<Table> => {
    const name = tableOf(topic, { ...config, table: template }, connection.server.database);
    const sql = sqlName(name);
    const table = await prepareTable(connection, config, name, columns, key, tables.get(sql));
    tables.set(sql, table);
    if (staging === undefined) return table;
    const staged = { schema: name.schema, name: staging };
    await makeStaging(connection, staged, sql);
    const wanted = columns.filter((column) => table.columns.has(columnKey(column.name)));
    const evolve = evolveStaging(config.evolve);
    return prepareTable(connection, { ...config, evolve }, staged, wanted, key, undefined);
  };

  const prepare = async (group: RecordGroup, layout: Layout, staging?: string): Promise<MysqlTarget> => {
    const table = await tableFor(group, layout, staging);
    const typeOf = (column: LaidColumn) => table.columns.get(columnKey(column.name))!;
    const columns = layout.columns.filter(
      (column) => typeOf(column) !== undefined && !layout.untold?.includes(column.name),
    );
    const key = layout.key.map((part) => columns.find((column) => column.name === part)!);
    const checks = checksOf(columns, (column) => columnCheck(typeOf(column), column.schema, key.includes(column)));
    return {
      table,
      columns,
      key,
      checks,
      isText: (column) => isText(typeOf(column)),
      updatesOnly: layout.untold !== undefined,
      insert: Buffer.from(`INSERT INTO ${table.sql} (${columns.map(({ name }) => quote(name)).join(', ')}) VALUES `),
      update: Buffer.from(key.length === 0 ? '' : upsertOf(table.sql, namesOf(columns), namesOf(key))),
    };
  };

  return rememberTargets(prepare);
};

/**
 * A row that another unique key finds is not the row of this one: its key becomes NULL, which the server refuses, and nothing of it is
 * overwritten. The first assignment, because those behind it are seen by it no more.
 */
export const upsertOf = (table: string, columns: readonly string[], key: readonly string[]): string => {
  const names = key.map(quote);
  // Named with their table: where the rows are selected from another one, that has these columns too.
  const same = names.map((name) => `${table}.${name} = VALUES(${name})`).join(' AND ');
  const others = columns.filter((column) => !key.includes(column)).map(quote);
  const assignments = [
    `${names[0]} = IF(${same}, ${table}.${names[0]}, NULL)`,
    ...others.map((name) => `${name} = VALUES(${name})`),
  ];
  return ` ON DUPLICATE KEY UPDATE ${assignments.join(', ')}`;
};
