import * as z from 'zod';
import { batchOfGroups, gatherGroup, type RecordGroup, sliceBatch } from '../connect/batch.ts';
import { batchOf } from '../connect/build.ts';
import {
  type Budget,
  movedBytes,
  type Offsets,
  type Partition,
  type Poll,
  type Position,
  partitionKey,
} from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import { fitting } from '../connect/fitting.ts';
import type { Schema, Struct, StructSchema, Value } from '../connect/schema.ts';
import { createTextOutput, written } from '../connect/text-output.ts';
import type { KeyTexts } from '../connect/verify.ts';
import { writersOf } from '../verify/canonical.ts';
import { isRepair, repairPartition } from './repair-partition.ts';

/*
 * Rows that are to be sent again: an operator's order beside the offsets of a source, {…stream, table, repair: true}. The task that reads
 * changes reads the rows of its keys, in a view of the table as a snapshot's are, and sends them between changes: a row as one of a
 * snapshot, a key that has no row any more as a delete. Changes that such a row has already come again only where the key is no single
 * integer: they end where the row is.
 */

export const repairOffset = <View extends z.ZodType>(view: View) =>
  z.strictObject({
    repair: z.array(z.array(z.string())).describe('Keys, in canonical texts.'),
    passed: z.int().nonnegative().describe('So many of them are sent.'),
    views: z
      .array(z.strictObject({ from: z.int().nonnegative(), view }))
      .describe('The rows of the keys from each of these on were read in this view of the table.'),
  });

export interface RepairOffset<View> {
  readonly repair: string[][];
  readonly passed: number;
  readonly views: { readonly from: number; readonly view: View }[];
}

/** An order that is not carried out, or not wholly. */
export interface Repair<View> {
  readonly table: string;
  readonly partition: Partition;
  readonly offset: RepairOffset<View>;
}

/** The next order of these tables; one of a table that is read no more is left. */
export const nextRepair = <View>(
  stream: Partition,
  offsets: Offsets<unknown>,
  isRead: (table: string) => boolean,
): Repair<View> | undefined => {
  for (const [table, offset] of repairsOf<View>(stream, offsets))
    if (isRead(table) && offset.passed < offset.repair.length)
      return { table, partition: repairPartition(stream, table), offset };
  return undefined;
};

/** By table, its order, carried out or not. */
export const repairsOf = <View>(
  stream: Partition,
  offsets: Offsets<unknown>,
): ReadonlyMap<string, RepairOffset<View>> => {
  const orders = new Map<string, RepairOffset<View>>();
  for (const { partition, offset } of offsets.all()) {
    if (!isRepair(partition) || offset === null) continue;
    if (Object.entries(stream).every(([name, value]) => partition[name] === value))
      orders.set(String(partition.table), offset as RepairOffset<View>);
  }
  return orders;
};

/** Rows of a table that were sent again. */
export interface Repaired<View> {
  readonly views: readonly View[];
  /** In which of them the row of a key was read. */
  of(key: number | bigint): View | undefined;
}

/** Given the table's orders; only of keys that are one integer each. */
export const repairedIn = <View>(
  stream: Partition,
  table: string,
  offsets: Offsets<unknown>,
): Repaired<View> | undefined => {
  const order = repairsOf<View>(stream, offsets).get(table);
  if (order === undefined || order.passed === 0) return undefined;
  const { repair, passed, views } = order;
  if (repair.some((key) => key.length !== 1 || !/^-?\d+$/.test(key[0]!))) return undefined;
  const places = new Map(repair.slice(0, passed).map(([text], place) => [text!, place]));
  return {
    views: views.map(({ view }) => view),
    of(key) {
      const place = places.get(String(key));
      return place === undefined ? undefined : views.findLast(({ from }) => from <= place)?.view;
    },
  };
};

/** Emptying the destination would take the rows that were sent, and what came after it of them was passed over as sent. */
export const emptiedWhileRepaired = ({ stream, table }: { readonly stream: Partition; readonly table: string }) =>
  new ConnectError(
    'LOST_POSITION',
    `${table} was truncated while rows of it were sent again: set the offset of ${partitionKey(repairPartition(stream, table))} to null (sluice offsets set), and verify again`,
  );

/** The keys that one poll sends. */
export const keysOf = ({ offset: { repair, passed } }: Repair<unknown>, { maxRecords }: Budget): string[][] =>
  repair.slice(passed, passed + maxRecords);

/** Rows that were read for the keys of a poll, and what a key without a row is told as. */
export interface RepairRows<View> {
  readonly view: View;
  /** Each with its key. */
  readonly groups: readonly RecordGroup[];
  /** Keys whose rows are there and are no record: nothing is sent of them. */
  readonly refused: ReadonlySet<string>;
  readonly topic: string;
  readonly keySchema: StructSchema;
  readonly valueSchema: StructSchema;
  /** What a delete says of where it comes from: a topic of several tables is parted by it. */
  readonly source: Struct;
}

/** The records of these keys, in their order: each stands at the place of its key. */
export const repairPoll = <View>(
  { partition, offset }: Repair<View>,
  keys: readonly KeyTexts[],
  rows: RepairRows<View>,
  { maxBytes }: Budget,
): Poll<RepairOffset<View>> => {
  const found = new Map<string, { readonly group: RecordGroup; readonly row: number }>();
  for (const group of rows.groups) for (const [row, id] of keyIdsOf(group).entries()) found.set(id, { group, row });
  const ids = keys.map((key) => JSON.stringify(key));
  const sent = ids.flatMap((id, place) => (rows.refused.has(id) ? [] : [place]));
  const all = batchOfGroups(
    sent.map((place) => {
      const one = found.get(ids[place]!);
      return one === undefined ? deleted(keys[place]!, rows) : gatherGroup(one.group, Uint32Array.of(one.row));
    }),
  );
  const kept = fitting(all, maxBytes);
  const views = [...offset.views, { from: offset.passed, view: rows.view }];
  const at = (passed: number): Position<RepairOffset<View>> => ({
    partition,
    offset: { ...offset, passed: offset.passed + passed, views },
  });
  return {
    batch: sliceBatch(all, 0, kept),
    position: (index) => at(sent[index]! + 1),
    offsets: [at(kept === sent.length ? keys.length : sent[kept - 1]! + 1)],
    caughtUp: false,
    moved: movedBytes,
  };
};

/** By row of the group, its key in canonical texts, as JSON. */
export const keyIdsOf = ({ key, count }: RecordGroup): readonly string[] => {
  const fields = (key!.schema as StructSchema).fields.map(({ name, schema: { type } }) => ({ name, type }));
  const writers = writersOf({ columns: key!.columns, count }, fields);
  const out = createTextOutput(256);
  return Array.from({ length: count }, (_, row) =>
    JSON.stringify(
      writers.map((write, i) => {
        out.length = 0;
        write(out, row);
        return Buffer.from(written(out)).toString(fields[i]!.type === 'bytes' ? 'latin1' : 'utf8');
      }),
    ),
  );
};

/** The row is not known any more, only that there is none. */
const deleted = (
  key: KeyTexts,
  { topic, keySchema, valueSchema, source }: Omit<RepairRows<unknown>, 'view' | 'groups' | 'refused'>,
): RecordGroup => {
  const names = keySchema.fields.map(({ name, schema }, i) => [name, keyValue(schema, key[i]!)]);
  const value = { before: null, after: null, source, transaction: null, op: 'd', ts_ms: null };
  const { groups } = batchOf([{ topic, key: Object.fromEntries(names) as Struct, keySchema, value, valueSchema }]);
  return groups[0]!;
};

/** The value of a canonical text. */
const keyValue = (schema: Schema, text: string): Value => {
  switch (schema.type) {
    case 'int8':
    case 'int16':
    case 'int32':
    case 'float32':
    case 'float64':
      return Number(text);
    case 'int64':
      return BigInt(text);
    case 'boolean':
      return text === '1';
    case 'bytes':
      return Buffer.from(text, 'latin1');
    case 'timestamp':
      return schema.local ? text : `${text}Z`;
    default:
      return text;
  }
};
