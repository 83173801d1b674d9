import type { Table } from '../../shared/state/table.ts';
import { describeConnectors } from './describe-connectors.ts';
import { describeLease } from './describe-lease.ts';
import { describeOffsets } from './describe-offsets.ts';
import { describeTable } from './describe-table.ts';

/** Everything that a store of state must do: the table itself, and the offsets, leases and connectors that are built on it. */
export const describeStateStore = (name: string, makeTable: () => Promise<Table>): void => {
  describeTable(name, makeTable);
  describeOffsets(name, makeTable);
  describeLease(name, makeTable);
  describeConnectors(name, makeTable);
};
