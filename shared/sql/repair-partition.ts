import type { Partition } from '../connect/connector.ts';

/** Where an operator's order to send rows of a table again stands among the offsets of its source (`repair.ts`). */
export const repairPartition = (stream: Partition, table: string): Partition => ({ ...stream, table, repair: true });

export const isRepair = (partition: Partition): boolean => partition.repair === true;
