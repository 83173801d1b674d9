import type { RecordGroup } from '../../shared/connect/batch.ts';
import { evolveStaging } from '../../shared/sql/evolve.ts';
import { checksOf, type Layout } from '../../shared/sql/layout.ts';
import type { Target, Targets } from '../../shared/sql/plan.ts';
import { rememberTargets } from '../../shared/sql/targets.ts';
import { type Connection, quote } from './client.ts';
import type { PostgresSinkConfig } from './config.ts';
import { makeStaging, prepareTable, sqlName, type Table, tableOf } from './table.ts';
import { hasBinary } from './to-copy-binary.ts';
import { columnCheck } from './types.ts';

/** A table that is ready for records of one layout, and the statements that write them. */
export interface PostgresTarget extends Target {
  readonly table: Table;
  /** Statements around the COPY of one set of rows. `staged`: its lines begin with the row's ordinal and whether it deletes. */
  readonly staged: boolean;
  statements(deletes: boolean): readonly string[];
  /** The COPY of rows that are all new, into the table itself; undefined where no row is made. */
  readonly direct: string | undefined;
  /** The same of rows in binary; undefined where some column has no such form. */
  readonly binary?: string | undefined;
}

export const createTargets = (connection: Connection, config: PostgresSinkConfig): Targets<PostgresTarget> => {
  const tables = new Map<string, Table>();
  const stagings = new Map<Table, string>();

  const stagingOf = async (table: Table): Promise<string> => {
    let staging = stagings.get(table);
    if (staging === undefined) {
      staging = `pg_temp.sluice_${stagings.size}`;
      // The target's own column types, so that COPY already refuses what does not fit them, and names the line.
      await connection.run(
        `CREATE TEMP TABLE ${staging} AS SELECT 0 AS ${ordinalOf(table)}, false AS ${deletedOf(table)}, t.* FROM ${table.sql} t WITH NO DATA`,
      );
      stagings.set(table, staging);
    }
    return staging;
  };

  const tableFor = async (
    { topic }: RecordGroup,
    { columns, key, table: template = config.table }: Layout,
    staging?: string,
  ): Promise<Table> => {
    const name = tableOf(topic, { ...config, table: template });
    const sql = sqlName(name);
    const table = await prepareTable(connection, config, name, columns, key, tables.get(sql));
    tables.set(sql, table);
    if (staging === undefined) return table;
    const staged = { schema: name.schema, name: staging };
    await makeStaging(connection, staged, sql);
    const wanted = columns.filter((column) => table.columns.has(column.name));
    const evolve = evolveStaging(config.evolve);
    return prepareTable(connection, { ...config, evolve }, staged, wanted, key, undefined);
  };

  const prepare = async (group: RecordGroup, layout: Layout, staged?: string): Promise<PostgresTarget> => {
    const table = await tableFor(group, layout, staged);
    const columns = layout.columns.filter(({ name }) => table.columns.has(name) && !layout.untold?.includes(name));
    const names = columns.map((column) => quote(column.name));
    const checks = checksOf(columns, (column) => columnCheck(table.columns.get(column.name)!, column.schema));
    const direct = `COPY ${table.sql} (${names.join(', ')}) FROM STDIN`;
    if (layout.mode === 'insert') return { table, columns, checks, staged: false, statements: () => [direct], direct };
    const isBinary = columns.every(({ name, schema }) => hasBinary(table.columns.get(name)!, schema));
    return {
      table,
      columns,
      checks,
      staged: true,
      statements: mergeStatements(table, await stagingOf(table), names, layout),
      direct: layout.untold === undefined ? direct : undefined,
      binary: isBinary ? `${direct} (FORMAT binary)` : undefined,
    };
  };

  return rememberTargets(prepare);
};

/** Names of the staging table's own columns, which none of the target's has. */
const ordinalOf = ({ columns }: Table) => quote(freeName(columns, 'ordinal'));
const deletedOf = ({ columns }: Table) => quote(freeName(columns, 'deleted'));

const freeName = (columns: Table['columns'], name: string): string =>
  columns.has(name) ? freeName(columns, `${name}_`) : name;

/**
 * The last row of each key wins; a key that was deleted on the way starts from an empty row. Rows go in the order of their keys, so
 * that two tasks which write the same ones don't deadlock. One that is there as it came is not written again: a table that is read again
 * is mostly as it was, and the bytes of a value are compared where its type has no equality.
 */
const mergeStatements = (table: Table, staging: string, names: readonly string[], { key, untold }: Layout) => {
  const ordinal = ordinalOf(table);
  const deleted = deletedOf(table);
  const keys = key.map(quote);
  const others = names.filter((name) => !keys.includes(name));
  const set = (from: string) => others.map((name) => `${name} = ${from}.${name}`).join(', ');
  const same = keys.map((name) => `t.${name} = s.${name}`).join(' AND ');
  const last = `SELECT DISTINCT ON (${keys.join(', ')}) * FROM ${staging} ORDER BY ${[...keys, `${ordinal} DESC`].join(', ')}`;
  const copy = `COPY ${staging} (${[ordinal, deleted, ...names].join(', ')}) FROM STDIN`;
  const remove = `DELETE FROM ${table.sql} t USING ${staging} s WHERE s.${deleted} AND ${same}`;
  const image = (from: string) => `ROW(${others.map((name) => `${from}.${name}`).join(', ')})`;
  const upsert = `INSERT INTO ${table.sql} AS t (${names.join(', ')}) OVERRIDING SYSTEM VALUE
    SELECT ${names.join(', ')} FROM (${last}) last
    WHERE NOT ${deleted} ON CONFLICT (${keys.join(', ')}) DO ${others.length === 0 ? 'NOTHING' : `UPDATE SET ${set('excluded')} WHERE record_image_ne(${image('t')}, ${image('excluded')})`}`;
  // Nothing but the key was told: nothing changes.
  const update =
    others.length === 0
      ? []
      : [`UPDATE ${table.sql} t SET ${set('s')} FROM (${last}) s WHERE NOT s.${deleted} AND ${same}`];
  const write = untold === undefined ? [upsert] : update;
  const plain = [`TRUNCATE ${staging}`, copy, ...write];
  const withDeletes = [`TRUNCATE ${staging}`, copy, remove, ...write];
  return (deletes: boolean) => (deletes ? withDeletes : plain);
};
