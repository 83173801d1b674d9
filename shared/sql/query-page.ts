import { batchOfGroups, gatherGroup, type RecordBatch, type RecordGroup } from '../connect/batch.ts';
import type { Budget } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import { fitting } from '../connect/fitting.ts';
import type { Cursor } from './query-statement.ts';
import { nameOf, type QueryTable } from './query-table.ts';

/** Rows of one statement, as records. What was refused is among them. */
export interface QueryRows {
  readonly count: number;
  /** More rows came than were to be kept. */
  readonly isCut: boolean;
  /** Of their texts. */
  readonly bytes: number;
  readonly group: RecordGroup;
  readonly refused: ReadonlyMap<number, ConnectError>;
  /** A row's value of a part of the cursor; null where it is null. */
  cursorText(row: number, part: number): string | null;
  /** What the server sent of a row. */
  raw(row: number): Uint8Array;
}

export interface PageLimits {
  readonly maxRows: number;
  /** Rows are kept until they have so many bytes, and at least one more. */
  readonly maxBytes: number;
}

/** The rows of a page up to a place to cut. */
export interface Page {
  readonly rows: QueryRows;
  readonly batch: RecordBatch;
  readonly count: number;
  /** No row is behind them. */
  readonly isLast: boolean;
}

/** More rows are not asked for at once, however small they are. */
export const maxPageRows = 20_000;
/** Of a table whose rows nobody has seen: they may be large. */
const firstPageRows = 500;
/** Rows with the same values in the cursor's columns are read whole: no offset is between them. */
const maxAlike: PageLimits = { maxRows: maxPageRows, maxBytes: 32 * 1024 * 1024 };

/** The next rows, as many as fit the budget; where more are alike than fit, all of those. `rowBytes` is about what a row has. */
export const readPage = async (
  table: QueryTable,
  cursor: Cursor,
  { maxRecords, maxBytes }: Budget,
  rowBytes: number | undefined,
  read: (limits: PageLimits) => Promise<QueryRows>,
): Promise<Page> => {
  const fitRows = rowBytes === undefined ? firstPageRows : Math.max(1, Math.floor(maxBytes / rowBytes));
  const wanted = Math.min(maxRecords, maxPageRows, fitRows);
  // One more tells whether those that are alike are all there.
  const page = pageOf(await read({ maxRows: wanted + 1, maxBytes }), cursor, wanted + 1, wanted, maxBytes);
  if (page.count > 0 || page.isLast) return page;
  const limit = maxAlike.maxRows + 1;
  const whole = pageOf(await read({ ...maxAlike, maxRows: limit }), cursor, limit, 1, maxAlike.maxBytes);
  if (whole.count > 0) return whole;
  const values = cursorOfRow(whole.rows, 0, cursor, table);
  throw new ConnectError(
    'CONFIG_INVALID',
    cursor.parts.length === 0
      ? `${nameOf(table)} has no key, and more rows than can be read at once (${maxAlike.maxRows}, or 32 MB): give it a primary key, or name columns that are one as keyFields`
      : `more rows of ${nameOf(table)} than can be read at once (${maxAlike.maxRows}, or 32 MB) have the same ${cursor.by}, ${values.join()}: tell them apart by a primary key, keyFields, or mode timestamp+incrementing`,
  );
};

const pageOf = (read: QueryRows, cursor: Cursor, limit: number, wanted: number, maxBytes: number): Page => {
  const isAlikeBefore = (row: number) =>
    cursor.parts.every((_, part) => read.cursorText(row - 1, part) === read.cursorText(row, part));
  const rows = cursor.isUnique ? read : inOrder(read, isAlikeBefore);
  const batch = batchOfGroups([rows.group]);
  const isAll = rows.count < limit && !rows.isCut;
  const count = cutOf(rows.count, Math.min(fitting(batch, maxBytes), wanted), isAll, isAlikeBefore);
  return { rows, batch, count, isLast: isAll && count === rows.count };
};

/**
 * Rows that are alike come from the server in any order. What they are is their order here, so that a record has the same
 * identity whenever it is read (invariant 3).
 */
const inOrder = (rows: QueryRows, isAlikeBefore: (row: number) => boolean): QueryRows => {
  const order = new Uint32Array(rows.count);
  let isSame = true;
  for (let from = 0, to = 1; from < rows.count; from = to++) {
    while (to < rows.count && isAlikeBefore(to)) to++;
    const alike = Array.from({ length: to - from }, (_, i) => ({ row: from + i, raw: rows.raw(from + i) }));
    if (alike.length > 1) alike.sort((a, b) => Buffer.compare(a.raw, b.raw));
    for (const [i, { row }] of alike.entries()) {
      order[from + i] = row;
      isSame &&= row === from + i;
    }
  }
  if (isSame) return rows;
  const refused = new Map(
    [...order.entries()].flatMap(([row, was]) => {
      const error = rows.refused.get(was);
      return error === undefined ? [] : [[row, error] as const];
    }),
  );
  return {
    ...rows,
    group: gatherGroup(rows.group, order),
    refused,
    raw: (row) => rows.raw(order[row]!),
  };
};

/** The last place up to `fits` between rows that are not alike, else the first one behind; 0: there is none. */
const cutOf = (count: number, fits: number, isAll: boolean, isAlikeBefore: (row: number) => boolean): number => {
  if (isAll && fits >= count) return count;
  let cut = Math.min(fits, count - 1);
  while (cut > 0 && isAlikeBefore(cut)) cut--;
  if (cut > 0) return cut;
  for (cut = 1; cut < count && isAlikeBefore(cut); ) cut++;
  return cut < count || isAll ? cut : 0;
};

/** The values to go on behind. */
export const cursorOfRow = (rows: QueryRows, row: number, { parts }: Cursor, table: QueryTable): string[] =>
  parts.map(({ name, form }, part) => {
    const text = rows.cursorText(row, part);
    if (text !== null && !(form === 'time' && text.startsWith('0000-'))) return text;
    throw new ConnectError(
      'CONFIG_INVALID',
      `a row of ${nameOf(table)} has ${text ?? 'null'} as ${name}, behind which nothing can be read: mend the row, or leave such rows out by \`where\``,
    );
  });
