/** What changes the columns of a table, or puts another one in its place. A table that is made is none that was there. */
const alters = /\b(ALTER|RENAME|DROP|REPLACE)\b/i;
const ofDatabase = /\b(DATABASE|SCHEMA)\b/i;
/** Tables of a session, which have no rows in the log, and privileges. */
const others = /^(\s|\/\*.*?\*\/)*(DROP\s+(\/\*!\d+\s*)?TEMPORARY|GRANT|REVOKE)\b/is;

/** Whether a statement of the binlog may give a table other columns; true in doubt. */
export const mayAlter = (query: string): ((database: string, table: string) => boolean) => {
  if (!alters.test(query) || others.test(query)) return () => false;
  const hasDatabase = ofDatabase.test(query);
  return (database, table) => hasName(query, table) || (hasDatabase && hasName(query, database));
};

/** Of a name that has other characters it is not known how a statement writes it. */
const hasName = (query: string, name: string): boolean =>
  !/^[\w$]+$/.test(name) || new RegExp(`(?<![\\w$])${name.replaceAll('$', '\\$')}(?![\\w$])`, 'i').test(query);
