import type { Lag } from '../connect/connector.ts';
import { lagKey } from './keys.ts';
import type { OffsetOwner } from './offsets.ts';
import { checkShape, shapes } from './shape.ts';
import type { Item, Table } from './table.ts';

/** What a source said of its lag when it was asked last, or why it could not. */
export type MeasuredLag = { readonly atMs: number } & (
  | { readonly lag: Lag; readonly error?: undefined }
  | { readonly error: string; readonly lag?: undefined }
);

export const measuredLag = (item: Item): MeasuredLag => {
  checkShape('lag', item.v, item.sk);
  return JSON.parse(String(item.measured)) as MeasuredLag;
};

export const writeLag = async (
  table: Table,
  { connector, incarnation }: OffsetOwner,
  measured: MeasuredLag,
): Promise<void> => {
  await table.write([
    { put: { ...lagKey(connector, incarnation), v: shapes.lag, measured: JSON.stringify(measured) } },
  ]);
};
