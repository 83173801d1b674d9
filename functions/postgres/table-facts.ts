import type { Connection } from './client.ts';
import type { Relation } from './pgoutput.ts';
import type { TableFacts } from './table-layout.ts';
import { type CatalogType, isKnown } from './value-type.ts';

/** Whether a relation message says all there is to know. */
export const needsCatalog = ({ identity, columns }: Relation): boolean =>
  identity === 'f' || columns.some(({ type }) => !isKnown(type));

export const noFacts: TableFacts = { types: new Map(), primaryKey: [] };

/** What the catalog knows of a table's types and key. Both may have changed, or be gone, since the change was made. */
export const readFacts = async (connection: Connection, { oid, identity, columns }: Relation): Promise<TableFacts> => {
  const types = await readTypes(
    connection,
    columns.map(({ type }) => type),
  );
  const key = identity === 'f' ? await connection.query<{ name: string }>(keyQuery, [oid]) : [];
  return { types, primaryKey: key.map(({ name }) => name) };
};

/** Of these types, and of what they are made of, those that do not say by themselves what their values become. */
export const readTypes = async (
  connection: Connection,
  oids: readonly number[],
): Promise<ReadonlyMap<number, CatalogType>> => {
  const types = new Map<number, CatalogType>();
  let asked = [...new Set(oids)].filter((type) => !isKnown(type));
  // Items of arrays of arrays of …: each step asks for what the last one found.
  while (asked.length > 0) {
    const found = await connection.query<CatalogType>(typesQuery, [asked]);
    for (const type of found) types.set(type.oid, type);
    asked = found
      .flatMap(({ base, items }) => [base, items])
      .filter((type) => type !== 0 && !isKnown(type) && !types.has(type));
  }
  return types;
};

/** A type with the domains around it taken off; the modifier is that of the innermost domain that has one. */
const typesQuery = `WITH RECURSIVE unwrapped AS (
    SELECT oid AS asked, oid, typtype, typbasetype, typtypmod AS modifier FROM pg_type WHERE oid = ANY ($1)
    UNION ALL
    SELECT u.asked, t.oid, t.typtype, t.typbasetype, CASE WHEN u.modifier = -1 THEN t.typtypmod ELSE u.modifier END
    FROM unwrapped u JOIN pg_type t ON t.oid = u.typbasetype WHERE u.typtype = 'd')
  SELECT u.asked::int8::float8 AS oid, t.oid::int8::float8 AS base, u.modifier, coalesce(i.oid, 0)::int8::float8 AS items, coalesce(i.typdelim, ',') AS delimiter
  FROM unwrapped u JOIN pg_type t ON t.oid = u.oid
  LEFT JOIN pg_type i ON i.oid = t.typelem AND t.typoutput = 'array_out'::regproc
  WHERE u.typtype <> 'd'`;

const keyQuery = `SELECT a.attname AS name FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
  WHERE i.indrelid = $1 AND i.indisprimary`;
