/** What changes the columns of a table, or puts another one in its place. A table that is made is none that was there. */
const alters = /\b(ALTER|RENAME|DROP|REPLACE)\b/i;
const ofDatabase = /\b(DATABASE|SCHEMA)\b/i;
/** Written as it is, whatever quotes it stands in. Of other names it is not known how a statement has them. */
const plain = /^[\w$.-]+$/;

const names = (query: string, name: string): boolean =>
  !plain.test(name) || query.toLowerCase().includes(name.toLowerCase());

/** Whether a statement of the binlog may give a table other columns; true in doubt. */
export const mayAlter = (query: string): ((database: string, table: string) => boolean) => {
  if (!alters.test(query)) return () => false;
  const hasDatabase = ofDatabase.test(query);
  return (database, table) => names(query, table) || (hasDatabase && names(query, database));
};
