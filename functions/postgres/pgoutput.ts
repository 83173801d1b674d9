/*
 * The messages of PostgreSQL's output plugin `pgoutput`, protocol 1, values as text.
 * https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
 */

/** A message's first byte. */
export const BEGIN = 0x42;
export const COMMIT = 0x43;
export const RELATION = 0x52;
export const INSERT = 0x49;
export const UPDATE = 0x55;
export const DELETE = 0x44;
export const TRUNCATE = 0x54;

/** What comes before a row: N the new one, K what identifies the old one (O is the old one whole). */
export const NEW = 0x4e;
export const OLD_KEY = 0x4b;

export interface Transaction {
  /** Where its commit record begins. No two transactions have the same. */
  readonly lsn: bigint;
  readonly xid: number;
  /** When it committed. */
  readonly timestampMs: number;
}

/** As Debezium has it. */
export const transactionId = ({ xid, lsn }: Transaction): string => `${xid}:${lsn}`;

/** A table as it was when a change was made. */
export interface Relation {
  readonly oid: number;
  readonly schema: string;
  readonly table: string;
  /** d: the primary key, i: an index, f: the whole row, n: nothing. */
  readonly identity: string;
  readonly columns: readonly RelationColumn[];
}

export interface RelationColumn {
  readonly name: string;
  /** Part of what the server tells of an old row. */
  readonly isIdentity: boolean;
  /** pg_type.oid. */
  readonly type: number;
  /** pg_attribute.atttypmod; -1: none. */
  readonly modifier: number;
}

/** 2000-01-01, from which PostgreSQL counts, in milliseconds since 1970. */
const epochMs = 946_684_800_000;

const timestampMs = (data: Buffer, at: number): number => epochMs + Math.floor(Number(data.readBigInt64BE(at)) / 1000);

export const readBegin = (data: Buffer, at: number): Transaction => ({
  lsn: data.readBigUInt64BE(at + 1),
  timestampMs: timestampMs(data, at + 9),
  xid: data.readUInt32BE(at + 17),
});

/** Where the transaction ends. */
export const readCommit = (data: Buffer, at: number): bigint => data.readBigUInt64BE(at + 10);

export const readRelation = (data: Buffer, start: number): Relation => {
  let at = start + 5;
  const text = (): string => {
    const end = data.indexOf(0, at);
    const read = data.toString('utf8', at, end);
    at = end + 1;
    return read;
  };
  const oid = data.readUInt32BE(start + 1);
  const schema = text() || 'pg_catalog';
  const table = text();
  const identity = String.fromCharCode(data[at]!);
  const count = data.readUInt16BE(at + 1);
  at += 3;
  const columns: RelationColumn[] = [];
  for (let i = 0; i < count; i++) {
    const isIdentity = (data[at++]! & 1) === 1;
    const name = text();
    columns.push({ name, isIdentity, type: data.readUInt32BE(at), modifier: data.readInt32BE(at + 4) });
    at += 8;
  }
  return { oid, schema, table, identity, columns };
};

/** The tables that one TRUNCATE emptied. */
export const readTruncate = (data: Buffer, at: number): readonly number[] =>
  Array.from({ length: data.readUInt32BE(at + 1) }, (_, i) => data.readUInt32BE(at + 6 + 4 * i));

/** The values of a row: where the text of column i begins, or one of the two below, and where it ends. */
export type Slots = Int32Array;

/** In place of a value's start: it is null. */
export const NULL_VALUE = -1;
/** In place of a value's start: the server did not tell it (a long value that an update left as it was). */
export const UNTOLD = -2;

const NULL_KIND = 0x6e;
const TEXT_KIND = 0x74;

/** Reads a tuple whose letter was at `start - 1`, and answers where it ends. */
export const readTuple = (data: Buffer, start: number, slots: Slots): number => {
  const count = (data[start]! << 8) | data[start + 1]!;
  let at = start + 2;
  for (let i = 0; i < count; i++) {
    const kind = data[at++]!;
    if (kind === TEXT_KIND) {
      const length = (data[at]! << 24) | (data[at + 1]! << 16) | (data[at + 2]! << 8) | data[at + 3]!;
      slots[2 * i] = at + 4;
      at += 4 + length;
      slots[2 * i + 1] = at;
    } else {
      slots[2 * i] = kind === NULL_KIND ? NULL_VALUE : UNTOLD;
      slots[2 * i + 1] = 0;
    }
  }
  return at;
};

export const parseLsn = (text: string): bigint => {
  const [high = '', low = ''] = text.split('/');
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
};

export const lsnText = (lsn: bigint): string =>
  `${(lsn >> 32n).toString(16)}/${(lsn & 0xffffffffn).toString(16)}`.toUpperCase();
