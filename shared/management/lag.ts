import type { Lag } from '../connect/connector.ts';
import { segmentsFrom } from '../log/start.ts';
import type { Item, Table } from '../state/table.ts';
import type { LaneState } from './status.ts';

/** The segment of what a lane reads next; undefined: it is gone. */
export type ReadSegment = (lane: LaneState) => Promise<Item | undefined>;

export const segmentOf =
  (table: Table): ReadSegment =>
  async ({ partition, offset }) =>
    (await segmentsFrom(table, partition, offset.base, 1))[0];

/** What is unread in one lane. One read, and none where nothing is. */
export const laneLag = async (
  readSegment: ReadSegment,
  lane: LaneState,
  nowMs: number,
): Promise<Required<Omit<Lag, 'retained'>>> => {
  const { offset, next, bytes } = lane;
  const records = Math.max(0, next - offset.base - offset.index);
  if (records === 0) return { records, bytes: 0, behindMs: 0 };
  const segment = await readSegment(lane);
  // Nothing is there to read: a run finds out what became of it.
  if (segment === undefined) return { records, bytes, behindMs: 0 };
  const read = (Number(segment.rawLength) * offset.index) / Number(segment.count);
  return {
    records,
    bytes: Math.round(bytes - Number(segment.bytesBefore ?? 0) - read),
    behindMs: Math.max(0, nowMs - Number(segment.minMs)),
  };
};

/** Of all lanes of a reader together. */
export const readerLag = async (readSegment: ReadSegment, lanes: readonly LaneState[], nowMs: number): Promise<Lag> => {
  const all = await Promise.all(lanes.map((lane) => laneLag(readSegment, lane, nowMs)));
  const sum = (figure: 'records' | 'bytes') => all.reduce((total, lane) => total + lane[figure], 0);
  return { records: sum('records'), bytes: sum('bytes'), behindMs: Math.max(0, ...all.map((lane) => lane.behindMs)) };
};

/** The fields of the line that says a lag, from which metrics are made. */
export const lagFigures = ({ records, bytes, behindMs, retained }: Lag): { readonly [figure: string]: number } => {
  const figures = { records, bytes, behindMs, retainedBytes: retained?.bytes, retainedShare: retained?.share };
  return Object.fromEntries(
    Object.entries(figures).filter((entry): entry is [string, number] => entry[1] !== undefined),
  );
};
