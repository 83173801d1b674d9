/** A table that a statement emptied. */
export interface TruncatedTable {
  readonly database: string;
  readonly name: string;
}

/** White space and comments. */
const gap = String.raw`(?:\s|/\*[\s\S]*?\*/|--[^\n]*\n|#[^\n]*\n)`;
const name = String.raw`(\`(?:[^\`]|\`\`)+\`|"(?:[^"]|"")+"|[\w$\u0080-\uffff]+)`;
// A comment with an exclamation mark is none to the server. MariaDB may set variables for one statement.
const statement = new RegExp(
  `^${gap}*(?:/\\*M?!\\d*${gap}*)?(?:SET${gap}+STATEMENT${gap}[\\s\\S]*?${gap}FOR${gap}+)?TRUNCATE${gap}+(?:TABLE${gap}+)?${name}(?:${gap}*\\.${gap}*${name})?`,
  'i',
);

const unquoted = (text: string): string => {
  const quote = text[0];
  return quote === '`' || quote === '"' ? text.slice(1, -1).replaceAll(`${quote}${quote}`, quote) : text;
};

/** The table that a statement of the binlog empties; undefined where it does something else. `database` is the session's. */
export const truncatedTable = (query: string, database: string): TruncatedTable | undefined => {
  const found = statement.exec(query);
  if (found === null) return undefined;
  const [, first, second] = found;
  return second === undefined
    ? { database, name: unquoted(first!) }
    : { database: unquoted(first!), name: unquoted(second) };
};
