/*
 * TABLE_MAP events of the binlog: before the rows of a statement, each of its tables as it is then, with a number that the rows have. The
 * body is the number (6 bytes), flags (2), the names of database and table, each with its length before it and a zero behind it, and the columns.
 */

const TABLE_MAP = 0x13;
/** Of an event of any type, behind the first byte of its packet. */
const headerBytes = 19;
const numberBytes = 6;
const numberAndFlags = numberBytes + 2;

/** The body of the event in a packet; undefined where it is another one. */
export const tableMapOf = (packet: Buffer, start: number, end: number): Buffer | undefined =>
  packet[start] === 0 && packet[start + 5] === TABLE_MAP ? packet.subarray(start + 1 + headerBytes, end) : undefined;

export const tableIdOf = (body: Buffer): number => body.readUIntLE(0, numberBytes);

/** `database.table` */
export const tableNameOf = (body: Buffer): string => {
  const databaseAt = numberAndFlags + 1;
  const databaseEnd = databaseAt + body[numberAndFlags]!;
  const nameAt = databaseEnd + 2;
  return `${body.toString('utf8', databaseAt, databaseEnd)}.${body.toString('utf8', nameAt, nameAt + body[databaseEnd + 1]!)}`;
};

/** What it says of the table, whatever its number. */
export const formOf = (body: Buffer): Buffer => body.subarray(numberAndFlags);
