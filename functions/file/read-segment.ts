import { isUtf8 } from 'node:buffer';
import { freeGroup, gatherGroup, type RecordGroup } from '../../shared/connect/batch.ts';
import { freeBuffer } from '../../shared/connect/buffers.ts';
import type { Partition, RejectedSourceRecord } from '../../shared/connect/connector.ts';
import { rowError } from '../../shared/connect/errors.ts';
import { headBytes } from './identity.ts';
import { markBytes, type OpenFile } from './open-file.ts';
import { type Arena, createRows, type Limit, type Rows, type Stop } from './rows.ts';
import type { FileOffset } from './source-config.ts';
import { fillWindow, openWindow, type Window } from './window.ts';

/** What a poll takes of one file at once: one group. */
export interface Segment {
  readonly partition: Partition;
  readonly group?: RecordGroup;
  /** The offset after a record of the group. */
  offsetAt(row: number): FileOffset;
  /** `index` counts the records of this segment only. */
  readonly rejected: readonly RejectedSourceRecord<FileOffset>[];
  /** The rows used up, good or not, and their bytes. */
  readonly rows: number;
  readonly bytes: number;
  /** Nothing more is in the file now. */
  readonly drained: boolean;
  /** Frees the memory of the group. */
  free(): void;
}

/** Reads on in a file up to the limit, and moves its position. */
export const readSegment = async (file: OpenFile, limit: Limit, signal: AbortSignal): Promise<Segment> => {
  const window = openWindow(file.position, file.tail, Math.min(limit.bytes, file.expected.bytes));
  const first = file.position === 0 ? markBytes(file.head) : 0;
  const rows = createRows(first, file.line, Math.min(limit.rows, file.expected.rows));
  const stop = await readRows(file, window, rows, limit, signal);
  const drained = stop === 'end' || (stop === 'more' && window.atEnd && window.failure === undefined);
  const segment = closeSegment(file, window, rows, drained);
  const used = rows.count + rows.broken.length;
  if (window.failure !== undefined && used === 0 && stop !== 'limit') throw window.failure;
  if (used > 0) file.expected = { rows: Math.ceil(rows.count * 1.2) + 64, bytes: Math.ceil(rows.at * 1.01) + 4096 };
  return segment;
};

const readRows = async (
  file: OpenFile,
  window: Window,
  rows: Rows,
  limit: Limit,
  signal: AbortSignal,
): Promise<Stop> => {
  for (;;) {
    const final = window.atEnd && window.failure === undefined && !file.follow;
    const stop = file.reader.read(window, rows, limit, final);
    if (stop !== 'more' || window.atEnd) return stop;
    // A record far beyond the budget waits for a poll of its own.
    if (rows.count + rows.broken.length > 0 && window.length >= limit.bytes * 2) return 'limit';
    if (signal.aborted) return 'limit';
    await fillWindow(window, file.content, file.path, signal).catch((error) => {
      if (!signal.aborted) throw error;
    });
    growHead(file, window);
  }
};

/** A file that was shorter than its head when it was opened. */
const growHead = (file: OpenFile, window: Window): void => {
  const known = file.head.length;
  if (known === headBytes || window.start > known || window.start + window.length <= known) return;
  const more = window.data.subarray(known - window.start, Math.min(headBytes - window.start, window.length));
  file.head = Buffer.concat([file.head, more]);
};

const closeSegment = (file: OpenFile, window: Window, rows: Rows, drained: boolean): Segment => {
  const { partition, topic } = file;
  const start = window.start;
  const offset = (at: number, line: number) => file.offsetAt(start + at, line);
  file.position = start + rows.at;
  file.line = rows.line;
  // Before text is decoded behind the rows.
  file.tail = Buffer.from(window.data.subarray(rows.at, window.length));
  const bad = new Map<number, string>();
  const group = rows.count === 0 ? undefined : groupOf(file, window, rows, bad);
  const kept = bad.size === 0 ? undefined : keptRows(rows.count, bad);
  const good =
    kept === undefined || group === undefined ? group : kept.length === 0 ? undefined : gatherGroup(group, kept);
  const rejected = rejectedRows(file.path, window, rows, bad).map(({ at, line, ...rest }) => ({
    ...rest,
    topic,
    partition,
    offset: offset(at, line),
  }));
  // A record may be as large as a third of the memory: what was read is not kept beside its columns, but where they lie in it.
  if (group === undefined || !liesIn(group, window)) freeBuffer(window.data);
  return {
    partition,
    ...(good === undefined ? {} : { group: good }),
    offsetAt(row) {
      const original = kept === undefined ? row : kept[row]!;
      return offset(rows.after[original]!, rows.linesAfter[original]!);
    },
    rejected,
    rows: rows.count + rows.broken.length,
    bytes: rows.at,
    drained,
    free() {
      if (group !== undefined) freeGroup(group);
      freeBuffer(window.data);
    },
  };
};

const liesIn = ({ value }: RecordGroup, { data }: Window): boolean =>
  value.columns.some((column) => column.kind === 'bytes' && column.data.buffer === data.buffer);

const groupOf = (file: OpenFile, window: Window, rows: Rows, bad: Map<number, string>): RecordGroup => {
  const misfit = (row: number, problem: string) => {
    if (!bad.has(row)) bad.set(row, problem);
  };
  const { data } = window;
  if (!isUtf8(data.subarray(0, rows.at)))
    for (let row = 0; row < rows.count; row++)
      if (!isUtf8(data.subarray(rows.starts[row], rows.ends[row]))) misfit(row, 'bytes that are no UTF-8');
  const arena: Arena = { data, length: rows.at };
  return { topic: file.topic, count: rows.count, ...file.reader.sides(rows, arena, misfit) };
};

const keptRows = (count: number, bad: ReadonlyMap<number, string>): Uint32Array => {
  const kept = new Uint32Array(count - bad.size);
  let next = 0;
  for (let row = 0; row < count; row++) if (!bad.has(row)) kept[next++] = row;
  return kept;
};

/** Broken rows and misfits in the order of the file, each with the number of good rows before it. */
const rejectedRows = (path: string, { data }: Window, rows: Rows, bad: ReadonlyMap<number, string>) => {
  const misfits = [...bad].map(([row, problem]) => ({
    before: row,
    start: rows.starts[row]!,
    end: rows.ends[row]!,
    after: rows.after[row]!,
    linesBefore: rows.linesBefore[row]!,
    linesAfter: rows.linesAfter[row]!,
    problem,
    misfit: true,
  }));
  const broken = rows.broken.map((row) => ({ ...row, misfit: false }));
  const all = [...misfits, ...broken].sort((a, b) => a.start - b.start);
  let earlierMisfits = 0;
  return all.map((row) => {
    const index = row.before - earlierMisfits;
    if (row.misfit) earlierMisfits++;
    return {
      index,
      error: rowError(`${path}:${row.linesBefore + 1}: ${row.problem}`),
      raw: Buffer.from(data.subarray(row.start, row.end)) as Uint8Array,
      at: row.after,
      line: row.linesAfter,
    };
  });
};
