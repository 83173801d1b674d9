import { rowError } from '../../shared/connect/errors.ts';
import { type TextOutput, writeAscii, writeByte, writeBytes, written } from '../../shared/connect/text-output.ts';
import type { WriteRow } from '../../shared/connect/to-copy-text.ts';
import { flatColumn } from '../../shared/connect/to-json-lines.ts';
import { type LaidColumn, sideOf } from '../../shared/sql/layout.ts';
import { type Part, type Run, rowsOf } from '../../shared/sql/plan.ts';
import { quote } from './client.ts';
import { keyReader, type LastStates, lastStates } from './keys.ts';
import type { MysqlTarget } from './target.ts';
import { type ValueField, valueWriter } from './values.ts';

/** Rows of one target that are written together, in order. */
export interface Unit {
  readonly target: MysqlTarget;
  readonly count: number;
  /** The batch index of a row. */
  origin(row: number): number;
  /** Rows [from, to) as statements, one packet at a time in one buffer, `before` first and `after` last. */
  packets(from: number, to: number, limits: PacketLimits, before: string, after: string): Iterable<Packet>;
}

interface PacketLimits {
  readonly out: TextOutput;
  /** Bytes of statements that the server takes at once. */
  readonly maxBytes: number;
}

interface Packet {
  readonly statements: Uint8Array;
  /** The rows of its INSERT, which the server counts from 1. */
  readonly rows: readonly number[];
}

/** More is no faster, and the server holds the whole statement parsed. */
const PACKET_BYTES = 1024 * 1024;
/** What the server counts beside the statements. */
const PACKET_MARGIN = 64;
/** From some thousand keys on the server reads the whole table. */
const KEYS_PER_DELETE = 500;

export const unitOf = (run: Run<MysqlTarget>): Unit => {
  const { target } = run[0]!;
  const rows = rowsOf(run);
  const ofRow = <T>(parts: readonly RowWork<T>[]): RowWork<T> => {
    if (parts.length === 1) return parts[0]!;
    return (row) => {
      const part = rows.starts.findLastIndex((start) => start <= row);
      return parts[part]!(row - rows.starts[part]!);
    };
  };
  const fields = run.map((part) => target.columns.map((column) => fieldOf(part, column)));
  const keys = fields.map((part) => target.key.map((column) => part[target.columns.indexOf(column)]!));
  const deletes = ofRow(
    run.map(
      ({ group }) =>
        (row: number) =>
          group.value.nulls?.[row] === 1,
    ),
  );
  const keyOf = ofRow(keys.map(keyReader));

  const statesOf = (from: number, to: number): LastStates => {
    if (target.key.length > 0) return lastStates(from, to, keyOf, deletes);
    return { rows: Array.from({ length: to - from }, (_, i) => from + i), deleted: [] };
  };

  return {
    target,
    count: rows.count,
    origin: rows.origin,
    *packets(from, to, { out, maxBytes }, before, after) {
      const states = statesOf(from, to);
      const writeRow = ofRow(run.map(({ group }, i) => tupleWriter(fields[i]!, group.count, out)));
      const writeKey = ofRow(run.map(({ group }, i) => keyWriter(target, keys[i]!, group.count, out)));
      const room = maxBytes - PACKET_MARGIN - after.length - target.update.length;
      /** What is in the buffer, which is then empty. */
      const packet = (of: readonly number[] = []): Packet => {
        const statements = written(out);
        out.length = 0;
        return { statements, rows: of };
      };

      out.length = 0;
      writeAscii(out, before);
      for (let at = 0; at < states.deleted.length; at += KEYS_PER_DELETE) {
        writeDelete(out, target, states.deleted.slice(at, at + KEYS_PER_DELETE), writeKey);
        yield packet();
      }
      if (target.updatesOnly) {
        const writeUpdate = ofRow(run.map(({ group }, i) => updateWriter(target, fields[i]!, group.count, out)));
        for (const statements of updates(states.rows, writeUpdate, { out, maxBytes: room }, after))
          yield { statements, rows: [] };
        return;
      }
      let taken: number[] = [];
      for (const row of states.rows) {
        if (taken.length > 0) {
          const mark = out.length;
          writeByte(out, COMMA);
          writeRow(row);
          if (out.length <= Math.min(room, PACKET_BYTES)) {
            taken.push(row);
            continue;
          }
          out.length = mark;
          writeText(out, target.update);
          yield packet(taken);
        }
        writeStatement(out, target.insert);
        writeRow(row);
        if (out.length > room) throw tooLarge(out.length, maxBytes);
        taken = [row];
      }
      if (taken.length > 0) writeText(out, target.update);
      if (after !== '') writeStatement(out, Buffer.from(after));
      // Where rows are deleted only, and more tables follow, nothing is left to send.
      if (out.length > 0) yield packet(taken);
    },
  };
};

/** Statements of single rows, as many as a packet holds. */
function* updates(
  rows: readonly number[],
  writeUpdate: RowWork<void>,
  { out, maxBytes }: PacketLimits,
  after: string,
): Iterable<Uint8Array> {
  for (const row of rows) {
    const mark = out.length;
    writeUpdate(row);
    if (out.length - mark > maxBytes) throw tooLarge(out.length - mark, maxBytes);
    if (mark === 0 || out.length <= Math.min(maxBytes, PACKET_BYTES)) continue;
    // Without the semicolon before it.
    const last = Buffer.from(written(out).subarray(mark + 1));
    out.length = mark;
    yield written(out);
    out.length = 0;
    writeText(out, last);
  }
  if (after !== '') writeStatement(out, Buffer.from(after));
  if (out.length > 0) yield written(out);
}

type RowWork<T> = (row: number) => T;

const tooLarge = (bytes: number, maxBytes: number) =>
  rowError(`the row takes ${bytes} bytes, and max_allowed_packet of the server is ${maxBytes}`);

const fieldOf = ({ target, group }: Part<MysqlTarget>, column: LaidColumn): ValueField => {
  const { columns, nulls } = sideOf(group, column);
  return { column: flatColumn(columns[column.at]!, group.count), nulls, isText: target.isText(column) };
};

const COMMA = 0x2c;
const OPEN = 0x28;
const CLOSE = 0x29;
const SEMICOLON = 0x3b;

const writeText = (out: TextOutput, text: Buffer): void => writeBytes(out, text, 0, text.length);

const writeStatement = (out: TextOutput, text: Buffer): void => {
  if (out.length > 0) writeByte(out, SEMICOLON);
  writeText(out, text);
};

const tupleWriter = (fields: readonly ValueField[], count: number, out: TextOutput): RowWork<void> => {
  const writers = fields.map((field) => valueWriter(field, 0, count, out));
  return (row) => {
    writeByte(out, OPEN);
    for (let i = 0; i < writers.length; i++) {
      if (i > 0) writeByte(out, COMMA);
      writers[i]!(row);
    }
    writeByte(out, CLOSE);
  };
};

const writeDelete = (
  out: TextOutput,
  { table, key }: MysqlTarget,
  rows: readonly number[],
  writeKey: RowWork<void>,
) => {
  const [first, ...others] = key;
  const isOne = others.length === 0;
  writeStatement(out, Buffer.from(`DELETE FROM ${table.sql} WHERE ${isOne ? `${quote(first!.name)} IN (` : ''}`));
  for (const [i, row] of rows.entries()) {
    if (i > 0) writeAscii(out, isOne ? ',' : ' OR ');
    writeKey(row);
  }
  if (isOne) writeByte(out, CLOSE);
};

/** One row's UPDATE: a statement each, so that values are taken as an INSERT takes them. */
const updateWriter = (
  target: MysqlTarget,
  fields: readonly ValueField[],
  count: number,
  out: TextOutput,
): RowWork<void> => {
  const { table, columns, key } = target;
  const others = columns.filter((column) => !key.includes(column));
  const writers = others.map((column) => valueWriter(fields[columns.indexOf(column)]!, 0, count, out));
  const names = others.map(({ name }, i) => Buffer.from(`${i > 0 ? ', ' : ''}${quote(name)} = `));
  const keyFields = key.map((column) => fields[columns.indexOf(column)]!);
  const writePredicate = predicateWriter(target, keyFields, count, out);
  const head = Buffer.from(`UPDATE ${table.sql} SET `);
  const where = Buffer.from(' WHERE ');
  // Nothing but the key was told: nothing changes.
  if (others.length === 0) return () => {};
  return (row) => {
    writeStatement(out, head);
    for (const [i, write] of writers.entries()) {
      writeText(out, names[i]!);
      write(row);
    }
    writeText(out, where);
    writePredicate(row);
  };
};

/** The value of a key of one column, for a list; for more of them the condition, which MariaDB looks up where a list of tuples is not. */
const keyWriter = (
  target: MysqlTarget,
  fields: readonly ValueField[],
  count: number,
  out: TextOutput,
): RowWork<void> =>
  fields.length === 1
    ? comparedWriter(fields[0]!, valueWriter(fields[0]!, 0, count, out), out)
    : predicateWriter(target, fields, count, out);

/** The condition that finds the row of a key. */
const predicateWriter = (
  { key }: MysqlTarget,
  fields: readonly ValueField[],
  count: number,
  out: TextOutput,
): RowWork<void> => {
  const writers = fields.map((field) => comparedWriter(field, valueWriter(field, 0, count, out), out));
  const names = key.map(({ name }) => Buffer.from(`${quote(name)} = `));
  return (row) => {
    writeByte(out, OPEN);
    for (const [i, write] of writers.entries()) {
      if (i > 0) writeAscii(out, ' AND ');
      writeText(out, names[i]!);
      write(row);
    }
    writeByte(out, CLOSE);
  };
};

/** A decimal beside a text would be compared as a double. */
const comparedWriter = ({ column, isText }: ValueField, write: WriteRow, out: TextOutput): WriteRow => {
  if (column.schema.type !== 'decimal' || isText) return write;
  return (row) => {
    writeAscii(out, 'CAST(');
    write(row);
    writeAscii(out, ' AS DECIMAL(65,30))');
  };
};
