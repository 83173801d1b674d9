import { createTransactionCount } from '../../shared/sql/transactions.ts';
import type { BinlogPart, Truncate } from './binlog.ts';
import type { BinlogTable } from './binlog-table.ts';
import type { MysqlCdcConfig } from './cdc-config.ts';
import type { StreamOffset } from './cdc-offset.ts';
import type { ChangeBatch, Origin } from './change-batch.ts';
import type { HandOver } from './hand-over.ts';
import { opCode, type Row, TOMBSTONE, transactionId } from './row-columns.ts';
import { presentColumns, readImage, type Slots, UNTOLD } from './row-image.ts';
import { rowSchemaOf } from './row-schema.ts';
import { layoutOf, type TableLayout } from './table-layout.ts';
import { type ReadValues, valueColumn } from './value-column.ts';

type Rows = Extract<BinlogPart, { kind: 'rows' }>;

/** The changes of one transaction after the other as records. Each has its number in its transaction, whatever batches are cut. */
export interface Changes {
  /** Whether rows are left of those that it was given last. */
  readonly hasMore: boolean;
  /** Gives it the rows that come next in the transaction that begins at `place`. */
  give(rows: Rows, place: StreamOffset): void;
  /** The same for a table that was emptied. */
  giveTruncate(truncate: Truncate, place: StreamOffset): void;
  /** What ends where the transaction does of which rows were given; undefined: there were none, or ends are not told. */
  end(): { readonly transaction: string; readonly topics: ReadonlySet<string> } | undefined;
  /** Takes their records until the batch is full or none is left; answers where the last one taken stands. */
  take(batch: ChangeBatch): StreamOffset | undefined;
}

interface ChangesOptions {
  /** So many records of the first transaction are done. */
  readonly skip: number;
  /** What records are numbered by. */
  readonly counted: string;
  readonly handOver: HandOver;
  readonly read: ReadValues;
}

/** What is read at present. */
interface Current {
  readonly rows: Rows;
  readonly layout: TableLayout;
  readonly table: string;
  readonly origin: Origin;
  readonly before: readonly number[];
  readonly after: readonly number[];
  /** Of a record, beside its images. */
  readonly fixedBytes: number;
  readonly seen: ReturnType<HandOver['seenOf']>;
  /** Where the next change begins. */
  at: number;
  /** So many records of it are passed. */
  passed: number;
}

/** Of the two numbers of a place in a transaction. */
const orderBytes = 16;

const movedInPart =
  'its key was changed, and not all of its columns are in the binlog: SET GLOBAL binlog_row_image = FULL';

export const createChanges = (config: MysqlCdcConfig, { skip, counted, handOver, read }: ChangesOptions): Changes => {
  const layouts = new WeakMap<BinlogTable, TableLayout>();
  let transaction: StreamOffset | undefined;
  let left = skip;
  /** Records of the transaction that are passed, before the hand-over sees them. */
  let made = 0;
  const orders = config.transactions ? createTransactionCount() : undefined;
  let id = '';
  let current: Current | undefined;
  let truncate: { readonly of: Truncate; readonly origin: Origin } | undefined;
  const skipped = new Set<number>(config.skippedOperations.map((op) => (op === 't' ? -1 : opCode[op])));
  // A tombstone goes with its delete.
  if (skipped.has(opCode.d)) skipped.add(TOMBSTONE);

  /** A new transaction begins its count. */
  const enter = (place: StreamOffset) => {
    const { file, pos } = place;
    if (transaction !== undefined && transaction.file === file && transaction.pos === pos) return;
    if (transaction !== undefined) left = 0;
    transaction = place;
    made = 0;
    orders?.begin();
  };

  const originOf = (place: StreamOffset, { timestampMs, gtid }: Pick<Rows, 'timestampMs' | 'gtid'>): Origin => {
    const { file, pos } = place;
    return { timestampMs, gtid, file, pos, offsetAt: (record) => ({ ...place, record, tables: counted }) };
  };

  const takeTruncate = (batch: ChangeBatch, { of: { table, gtid }, origin }: NonNullable<typeof truncate>) => {
    const name = `${table.database}.${table.name}`;
    const schema = rowSchemaOf(table, config);
    const order = orders?.placeOf(name, 1);
    orders?.pass(name, schema.topic, 1);
    made++;
    if (made <= left || config.skippedOperations.includes('t')) return undefined;
    if (handOver.isTruncateSeen(name, gtid)) return undefined;
    batch.takeTruncate(schema, table, origin, made, order);
    return origin.offsetAt(made);
  };

  const layoutOnce = (table: BinlogTable): TableLayout => {
    const known = layouts.get(table);
    if (known !== undefined) return known;
    const layout = layoutOf(table, config);
    layouts.set(table, layout);
    return layout;
  };

  /** The records of the change that begins at `at`, and where the next one begins. */
  const next = ({ rows, layout, before, after, at }: Current): readonly [readonly Row[], number] => {
    const { op, data, end } = rows;
    const { widths, old, now } = layout;
    let to = at;
    if (op !== 'c') to = readImage(data, to, end, { widths, present: before }, old);
    if (op !== 'd') to = readImage(data, to, end, { widths, present: after }, now);
    if (op === 'c') return [[{ op: opCode.c, before: undefined, after: now, key: now }], to];
    const hasTombstone = config.tombstonesOnDelete && layout.key.length > 0;
    const deleted: readonly Row[] = [
      { op: opCode.d, before: old, after: undefined, key: old },
      ...(hasTombstone ? [{ op: TOMBSTONE, before: undefined, after: undefined, key: old }] : []),
    ];
    if (op === 'd') return [deleted, to];
    const isPartial = after.length < layout.all.length;
    if (isPartial) fillFromOld(now, old);
    // A row whose key changed is deleted and made.
    if (layout.key.every((column) => isSame(data, old, now, 2 * column)))
      return [[{ op: opCode.u, before: old, after: now, key: now }], to];
    const problem = isPartial && layout.all.some((column) => now[2 * column] === UNTOLD) ? movedInPart : undefined;
    return [[...deleted, { op: opCode.c, before: undefined, after: now, key: now, problem }], to];
  };

  return {
    get hasMore() {
      return current !== undefined || truncate !== undefined;
    },
    giveTruncate(of, place) {
      enter(place);
      if (orders !== undefined) id = transactionId({ ...place, gtid: of.gtid });
      truncate = { of, origin: originOf(place, of) };
    },
    give(rows, place) {
      enter(place);
      const { table, gtid, start } = rows;
      const layout = layoutOnce(table);
      const name = `${table.database}.${table.name}`;
      if (orders !== undefined) id = transactionId({ ...place, gtid });
      current = {
        rows,
        layout,
        table: name,
        origin: originOf(place, rows),
        before: presentColumns(rows.present, layout.all),
        after: presentColumns(rows.presentAfter, layout.all),
        fixedBytes:
          layout.fixedBytes +
          place.file.length +
          (gtid?.length ?? 0) +
          (orders === undefined ? 0 : id.length + orderBytes),
        seen: handOver.seenOf(name, gtid),
        at: start,
        passed: 0,
      };
    },
    end() {
      if (orders === undefined || orders.topics.size === 0) return undefined;
      const topics = new Set(orders.topics);
      orders.begin();
      return { transaction: id, topics };
    },
    take(batch) {
      if (truncate !== undefined && !batch.isFull) {
        const taken = takeTruncate(batch, truncate);
        truncate = undefined;
        return taken;
      }
      let from: Origin | undefined;
      let record = 0;
      while (current !== undefined && !batch.isFull) {
        const { rows, layout, table, origin, fixedBytes, seen } = current;
        const [records, to] = next(current);
        const bytes = to - current.at + fixedBytes;
        let base: number | undefined;
        for (; current.passed < records.length && !batch.isFull; current.passed++) {
          const row = records[current.passed]!;
          made++;
          const isChange = row.op !== TOMBSTONE;
          const order = orders?.placeOf(table, isChange ? 1 : 0);
          if (isChange) orders?.pass(table, layout.schema.topic, 1);
          if (made <= left || skipped.has(row.op) || seen?.(firstOfKey(layout, rows.data, row.key, read))) continue;
          base ??= batch.copy(rows.data, current.at, to) - current.at;
          batch.take(layout, row, base, origin, made, bytes, order);
          record = made;
          from = origin;
        }
        if (current.passed < records.length) break;
        current.at = to;
        current.passed = 0;
        if (to >= rows.end) current = undefined;
      }
      return from?.offsetAt(record);
    },
  };
};

/** What an update does not tell is as it was, where that is told. */
const fillFromOld = (now: Slots, old: Slots): void => {
  for (let slot = 0; slot < now.length; slot += 2)
    if (now[slot] === UNTOLD) {
      now[slot] = old[slot]!;
      now[slot + 1] = old[slot + 1]!;
    }
};

const isSame = (data: Buffer, old: Slots, now: Slots, slot: number): boolean => {
  const [a, b] = [old[slot]!, now[slot]!];
  if (a < 0 || b < 0) return a === b;
  const length = old[slot + 1]! - a;
  if (now[slot + 1]! - b !== length) return false;
  for (let i = 0; i < length; i++) if (data[a + i] !== data[b + i]) return false;
  return true;
};

/** Where it is an integer: of others only the server knows the order. */
const firstOfKey = (
  { columns, key, schema }: TableLayout,
  data: Buffer,
  slots: Slots,
  read: ReadValues,
): number | bigint | undefined => {
  const [first] = key;
  if (first === undefined || !schema.keyColumns[0]!.type.schema.type.startsWith('int')) return undefined;
  const images = { data, slots, stride: 0, at: 2 * first, count: 1, isWhole: true };
  const column = valueColumn(columns[first]!.type.schema, columns[first]!, images, read, () => {});
  return column.kind === 'int32' || column.kind === 'int64' ? column.values[0] : undefined;
};
