import { ConnectError } from '../../shared/connect/errors.ts';
import type { Key } from '../../shared/sql/snapshot.ts';
import type { Layouts } from './cdc-session.ts';
import { type Connection, literal, quote } from './client.ts';
import type { RelationColumn } from './pgoutput.ts';
import type { RowField, TableLayout } from './table-layout.ts';

/** A table whose rows are read. */
export interface SnapshotTable {
  /** As schema.table. */
  readonly name: string;
  /** As in FROM: partitions are read through their root, what only inherits by itself. */
  readonly from: string;
  /** That of the table's changes. */
  readonly layout: TableLayout;
  /** In whose order rows are read, in the index's order; [] where there is none. */
  readonly key: readonly RowField[];
  /** Of the table and its partitions. */
  readonly bytes: number;
  /** Rows that the publication leaves out. */
  readonly rowFilter: string | null;
}

/** A table that is read in the order of its key. */
export interface KeyedTable extends Pick<SnapshotTable, 'from' | 'bytes'> {
  readonly key: readonly Pick<RowField, 'name' | 'type'>[];
}

/** A schema's name has no dot here. */
const partsOf = (name: string): readonly [schema: string, table: string] => {
  const dot = name.indexOf('.');
  return [name.slice(0, dot), name.slice(dot + 1)];
};

export const sqlNameOf = (name: string): string => partsOf(name).map(quote).join('.');

interface TableRow {
  readonly oid: number;
  readonly isPartitioned: boolean;
  readonly identity: string;
  readonly columns: readonly RelationColumn[] | null;
  readonly key: readonly string[] | null;
  readonly bytes: number;
  readonly isPublished: boolean;
  readonly rowFilter: string | null;
}

/** What the relation message of a change of it would say, and the key. Before PostgreSQL 18 no generated column is published. */
const tableQuery = `SELECT c.oid::int8::float8 AS oid, c.relkind = 'p' AS "isPartitioned", c.relreplident AS identity,
    (SELECT json_agg(json_build_object('name', a.attname, 'type', a.atttypid::int8, 'modifier', a.atttypmod,
        'isIdentity', c.relreplident = 'f' OR a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) IS TRUE) ORDER BY a.attnum)
      FROM pg_attribute a LEFT JOIN pg_index i ON i.indexrelid = pg_get_replica_identity_index(c.oid)
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        AND coalesce(to_jsonb(p)->'attnames' ? a.attname, true)
        AND (a.attgenerated = '' OR current_setting('server_version_num')::int >= 180000)) AS columns,
    (SELECT json_agg(a.attname ORDER BY k.at)
      FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, at), pg_attribute a
      WHERE i.indrelid = c.oid AND a.attrelid = c.oid AND a.attnum = k.number AND k.at <= i.indnkeyatts
        AND CASE WHEN pg_get_replica_identity_index(c.oid) IS NULL THEN i.indisprimary
          ELSE i.indexrelid = pg_get_replica_identity_index(c.oid) END) AS key,
    (SELECT sum(pg_table_size(t.oid))::float8 FROM pg_class t
      WHERE t.oid = c.oid OR t.oid IN (SELECT relid FROM pg_partition_tree(c.oid))) AS bytes,
    p.pubname IS NOT NULL AS "isPublished", to_jsonb(p)->>'rowfilter' AS "rowFilter"
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_publication_tables p ON p.pubname = $2 AND p.schemaname = n.nspname AND p.tablename = c.relname
  WHERE n.nspname || '.' || c.relname = $1 AND c.relkind IN ('r', 'p')`;

export const readTable = async (
  connection: Connection,
  layouts: Layouts,
  name: string,
  publication: string,
): Promise<SnapshotTable> => {
  const { isPublished, ...table } = await findTable(connection, layouts, name, publication);
  // Its changes would be lost from the reading of its rows on.
  if (!isPublished)
    throw new ConnectError(
      'CONFIG_INVALID',
      `publication ${publication} lacks ${name}: deploy the connector again, or ALTER PUBLICATION ${quote(publication)} ADD TABLE ${sqlNameOf(name)}`,
    );
  return table;
};

/** A table of a source as its publication has it, or, where it is in none, as it is. */
export const findTable = async (
  connection: Connection,
  layouts: Layouts,
  name: string,
  publication: string,
): Promise<SnapshotTable & { readonly isPublished: boolean }> => {
  const [row] = await connection.query<TableRow>(tableQuery, [name, publication]);
  const [schema, table] = partsOf(name);
  if (row === undefined)
    throw new ConnectError('CONFIG_INVALID', `there is no table ${name}: make it, or take it out of tables`);
  const relation = { oid: row.oid, schema, table, identity: row.identity, columns: row.columns ?? [] };
  let layout = layouts.layoutOf(relation);
  if (layout === null) {
    await layouts.learn(relation);
    layout = layouts.layoutOf(relation);
  }
  if (layout === undefined || layout === null) throw new TypeError(`${name} is none of the tables to read`);
  const { fields } = layout;
  const key = (row.key ?? []).flatMap((column) => fields.find((field) => field.name === column) ?? []);
  return {
    name,
    from: `${row.isPartitioned ? '' : 'ONLY '}${sqlNameOf(name)}`,
    layout,
    key: key.length === row.key?.length ? key : [],
    bytes: row.bytes,
    rowFilter: row.rowFilter,
    isPublished: row.isPublished,
  };
};

/** The names of the first columns of keys, for those tables that have one. */
export const firstKeyColumns = async (
  connection: Connection,
  tables: readonly string[],
): Promise<ReadonlyMap<string, string>> => {
  const rows = await connection.query<{ name: string; column: string }>(
    `SELECT n.nspname || '.' || c.relname AS name, a.attname AS column
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_index i ON i.indrelid = c.oid AND CASE WHEN pg_get_replica_identity_index(c.oid) IS NULL THEN i.indisprimary
       ELSE i.indexrelid = pg_get_replica_identity_index(c.oid) END
     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
     WHERE n.nspname || '.' || c.relname = ANY ($1)`,
    [tables],
  );
  return new Map(rows.map(({ name, column }) => [name, column]));
};

export const keyList = ({ key }: Pick<KeyedTable, 'key'>): string => key.map(({ name }) => quote(name)).join(', ');

/** `(a, b) > ('x', 'y')`: compared as the index has them. The texts are read as the columns' types. */
const compared = (table: SnapshotTable, operator: string, key: Key): readonly string[] =>
  key === null ? [] : [`(${keyList(table)}) ${operator} (${key.map((text) => literal(text)).join(', ')})`];

/** The rows after a key, up to and with another, in the key's order. */
export const rowsQuery = (table: SnapshotTable, after: Key, to: Key): string =>
  `${selectRows(table, [...compared(table, '>', after), ...compared(table, '<=', to)])}${orderOf(table)}`;

/** Rows that hold these conditions, and that the publication has. */
export const selectRows = ({ from, layout, rowFilter }: SnapshotTable, conditions: readonly string[]): string => {
  const where = [...conditions, ...(rowFilter === null ? [] : [`(${rowFilter})`])];
  const columns = layout.fields.map(({ name }) => quote(name)).join(', ');
  return `SELECT ${columns} FROM ${from}${where.length === 0 ? '' : ` WHERE ${where.join(' AND ')}`}`;
};

const orderOf = (table: SnapshotTable): string => (table.key.length === 0 ? '' : ` ORDER BY ${keyList(table)}`);
