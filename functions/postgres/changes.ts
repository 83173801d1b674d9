import type { Op } from '../../shared/connect/envelope.ts';
import { createTransactionCount } from '../../shared/sql/transactions.ts';
import type { Pages } from './copy-out.ts';
import type { Seen, SeenIn } from './hand-over.ts';
import {
  BEGIN,
  COMMIT,
  DELETE,
  INSERT,
  NEW,
  OLD_KEY,
  RELATION,
  type Relation,
  readBegin,
  readCommit,
  readRelation,
  readTruncate,
  readTuple,
  type Slots,
  TRUNCATE,
  type Transaction,
  UNTOLD,
  UPDATE,
} from './pgoutput.ts';
import type { Row, RowPlace } from './row-columns.ts';
import type { TableLayout } from './table-layout.ts';

/** A place in the changes of a slot, as the offset has it. */
export interface Place {
  readonly lsn: bigint;
  readonly row: number;
  readonly record: number;
}

/** Where records go. `take` answers false where there is no room for the record. */
export interface Taker {
  take(layout: TableLayout, page: Buffer, row: Row, place: RowPlace, bytes: number): boolean;
  /** The end of a transaction that changed tables of these topics; it goes on at `lsn`. False where there is no room to tell it. */
  end(topics: ReadonlySet<string>, transaction: Transaction, lsn: bigint): boolean;
  /** Nothing of this page comes any more. */
  leave(page: Buffer): void;
}

export interface ChangesOptions {
  /** Changes before it are passed over. */
  readonly from: Place;
  readonly skipped: ReadonlySet<Op>;
  readonly tombstones: boolean;
  /** Whether the ends of transactions are told, and where in them each change stands. */
  readonly transactions: boolean;
  /** Undefined: the table is not one to read. Null: the catalog has to be asked first. */
  layoutOf(relation: Relation): TableLayout | undefined | null;
  /** Changes that the rows of a snapshot hold already are passed over. */
  readonly seenIn?: SeenIn;
  /** After it `layoutOf` knows the table. */
  learn(relation: Relation): Promise<void>;
}

/** The rows of one COPY of changes, in order, to be read in portions. */
export interface Changes {
  /** Behind the last record that was taken, or the last transaction that was passed. */
  readonly place: Place;
  /** Messages read so far. */
  readonly messages: number;
  /** Takes records until there is no room for one, or until the end. */
  read(taker: Taker): Promise<'full' | 'end'>;
}

const oldAndNewDiffer =
  'a long value of it was not changed and so not told, and its key was changed: ALTER TABLE … REPLICA IDENTITY FULL has the server tell all of a row';

export const createChanges = (pages: Pages, options: ChangesOptions): Changes => {
  const { from, skipped } = options;
  const layouts = new Map<number, TableLayout | undefined>();
  let page: Buffer | undefined;
  let at = 0;
  let isStarted = false;
  let messages = 0;
  let transaction: Transaction | undefined;
  let seen: Seen | undefined;
  /** Changes of the transaction that are passed, of all tables: hazard D5. */
  let row = 0;
  let record = 0;
  let place = from;
  const counted = options.transactions ? createTransactionCount() : undefined;
  let old: Slots = new Int32Array(0);
  let now: Slots = new Int32Array(0);

  /** The records of one change: the part of `parts` that is not passed yet. False where there is no room for the next one. */
  const takeAll = (taker: Taker, layout: TableLayout, parts: readonly Row[], bytes: number): boolean => {
    for (; record < parts.length; record++) {
      const part = parts[record]!;
      // A tombstone goes with its delete.
      if (skipped.has(part.op ?? 'd')) continue;
      // A changed key is two rows, which may have been read in two views.
      if (seen?.(layout, page!, part.after ?? part.before) === true) continue;
      const isLast = record + 1 === parts.length;
      const behind = isLast ? { row: row + 1, record: 0 } : { row, record: record + 1 };
      const order = counted?.placeOf(tableOf(layout), changesIn(parts.slice(0, record + 1)));
      if (!taker.take(layout, page!, part, { transaction: transaction!, ...behind, order }, bytes)) {
        place = { lsn: transaction!.lsn, row, record };
        return false;
      }
    }
    counted?.pass(tableOf(layout), layout.topic, changesIn(parts));
    return true;
  };

  /** Before a table filter sees it, a change is counted; what the offset has passed already is passed again. */
  const isPassed = (): boolean => transaction!.lsn < from.lsn || (transaction!.lsn === from.lsn && row < from.row);

  /** Where changes are counted, those of the transaction in whose middle the offset is are read again. */
  const isCounted = (): boolean => counted !== undefined && transaction!.lsn === from.lsn;

  const passed = () => {
    row++;
    record = 0;
    if (transaction!.lsn >= from.lsn) place = { lsn: transaction!.lsn, row, record: 0 };
  };

  const change = (taker: Taker, kind: number, start: number, end: number, lsnAt: number): boolean => {
    const layout = layouts.get(page!.readUInt32BE(start + 1));
    const isDone = isPassed();
    if (layout !== undefined && (!isDone || isCounted())) {
      const width = 2 * layout.relation.columns.length;
      if (old.length !== width) {
        old = new Int32Array(width);
        now = new Int32Array(width);
      }
      const parts = partsOf(
        page!,
        kind,
        start + 5,
        layout,
        { old, now },
        page!.readBigInt64BE(lsnAt),
        options.tombstones,
      );
      if (isDone) counted!.pass(tableOf(layout), layout.topic, changesIn(parts));
      else if (!takeAll(taker, layout, parts, end - start + layout.fixedBytes)) return false;
    }
    passed();
    return true;
  };

  const truncate = (taker: Taker, start: number, lsnAt: number): boolean => {
    const isDone = isPassed();
    if (!isDone || isCounted()) {
      // Those that CASCADE brought come last, and go first: no foreign key of them keeps the others from being emptied.
      const tables = readTruncate(page!, start)
        .toReversed()
        .flatMap((oid) => layouts.get(oid) ?? []);
      if (isDone) record = tables.length;
      for (; record < tables.length; record++) {
        if (skipped.has('t')) continue;
        const layout = tables[record]!;
        if (seen?.(layout, page!, undefined) === true) continue;
        const behind = { row, record: record + 1 };
        const lsn = page!.readBigInt64BE(lsnAt);
        const order = counted && {
          ...counted.placeOf(tableOf(layout), 1),
          total: counted.placeOf('', record + 1).total,
        };
        const at = { transaction: transaction!, ...behind, order };
        if (!taker.take(layout, page!, { op: 't', lsn }, at, layout.fixedBytes)) {
          place = { lsn: transaction!.lsn, row, record };
          return false;
        }
      }
      for (const layout of tables) counted?.pass(tableOf(layout), layout.topic, 1);
    }
    passed();
    return true;
  };

  const begin = (start: number) => {
    transaction = readBegin(page!, start);
    seen = options.seenIn?.(transaction);
    row = 0;
    record = 0;
    counted?.begin();
    // The place of a transaction that is begun is that of its first change: nothing has been passed that was not before it.
    if (transaction.lsn > place.lsn) place = { lsn: transaction.lsn, row: 0, record: 0 };
  };

  const commit = (taker: Taker, start: number): boolean => {
    const end = readCommit(page!, start);
    if (counted !== undefined && counted.topics.size > 0 && !taker.end(counted.topics, transaction!, end)) return false;
    transaction = undefined;
    if (end > place.lsn) place = { lsn: end, row: 0, record: 0 };
    return true;
  };

  /** One row of the COPY. A relation that has to be learned first stops it, as does a record that there is no room for. */
  const step = (taker: Taker): 'read' | 'full' | 'end' | Relation => {
    // Two columns: lsn (8 bytes), data.
    if (page!.readInt16BE(at) === -1) {
      at = page!.length;
      return 'end';
    }
    const lsnAt = at + 6;
    const start = at + 18;
    const end = start + page!.readInt32BE(at + 14);
    const kind = page![start]!;
    if (kind === INSERT || kind === UPDATE || kind === DELETE) {
      if (row === from.row && record === 0 && transaction!.lsn === from.lsn) ({ record } = from);
      if (!change(taker, kind, start, end, lsnAt)) return 'full';
    } else if (kind === BEGIN) begin(start);
    else if (kind === COMMIT) {
      if (!commit(taker, start)) return 'full';
    } else if (kind === RELATION) {
      const relation = readRelation(page!, start);
      const layout = options.layoutOf(relation);
      if (layout === null) return relation;
      layouts.set(relation.oid, layout);
    } else if (kind === TRUNCATE) {
      if (row === from.row && record === 0 && transaction!.lsn === from.lsn) ({ record } = from);
      if (!truncate(taker, start, lsnAt)) return 'full';
    }
    at = end;
    messages++;
    return 'read';
  };

  return {
    get place() {
      return place;
    },
    get messages() {
      return messages;
    },
    async read(taker) {
      for (;;) {
        if (page === undefined || at >= page.length) {
          if (page !== undefined) taker.leave(page);
          page = await pages.next();
          at = 0;
          if (page === undefined) return 'end';
          // The signature, flags and length of nothing.
          if (!isStarted) at = 19;
          isStarted = true;
          continue;
        }
        const done = step(taker);
        if (done === 'full') return 'full';
        if (typeof done === 'object') await options.learn(done);
      }
    },
  };
};

const changesIn = (parts: readonly Row[]): number => parts.filter(({ op }) => op !== undefined).length;

const tableOf = ({ relation }: TableLayout): string => `${relation.schema}.${relation.table}`;

interface Scratch {
  readonly old: Slots;
  readonly now: Slots;
}

/** The records of a change of a row: one; for a deleted one a tombstone besides; for a changed key those of a delete and of an insert. */
const partsOf = (
  page: Buffer,
  kind: number,
  start: number,
  { key, relation }: TableLayout,
  { old, now }: Scratch,
  lsn: bigint,
  tombstones: boolean,
): readonly Row[] => {
  let at = start;
  const isOldTold = page[at] !== NEW;
  if (isOldTold) {
    // An index's columns only: of the others it has nulls, which say nothing.
    const isKeyOnly = page[at] === OLD_KEY;
    at = readTuple(page, at + 1, old);
    if (isKeyOnly) for (const [i, { isIdentity }] of relation.columns.entries()) if (!isIdentity) old[2 * i] = UNTOLD;
  }
  if (kind !== DELETE) readTuple(page, at + 1, now);
  if (kind === INSERT) return [{ op: 'c', after: now, lsn }];
  const deleted: readonly Row[] = [
    { op: 'd', before: old, lsn },
    ...(tombstones && key.length > 0 ? [{ op: undefined, before: old, lsn }] : []),
  ];
  if (kind === DELETE) return deleted;
  if (isOldTold) fillFromOld(now, old);
  const isMoved = isOldTold && key.some(({ index }) => !isSameText(page, old, now, 2 * index));
  if (!isMoved) return [{ op: 'u', before: isOldTold ? old : undefined, after: now, lsn }];
  const isWhole = now.every((slot, i) => i % 2 === 1 || slot !== UNTOLD);
  return [...deleted, { op: 'c', after: now, lsn, problem: isWhole ? undefined : oldAndNewDiffer }];
};

/** What an update left as it was stands in the old row, where that is told. */
const fillFromOld = (now: Slots, old: Slots): void => {
  for (let i = 0; i < now.length; i += 2)
    if (now[i] === UNTOLD) {
      now[i] = old[i]!;
      now[i + 1] = old[i + 1]!;
    }
};

const isSameText = (page: Buffer, old: Slots, now: Slots, slot: number): boolean => {
  const [a, b] = [old[slot]!, now[slot]!];
  if (a < 0 || b < 0) return a === b;
  return page.compare(page, a, old[slot + 1], b, now[slot + 1]) === 0;
};
