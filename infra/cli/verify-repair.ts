import { userInfo } from 'node:os';
import { delay } from '../../shared/connect/backoff.ts';
import type { Partition } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { KeyTexts } from '../../shared/connect/verify.ts';
import { changeOffsets } from '../../shared/management/offsets.ts';
import { type RepairOffset, repairsOf } from '../../shared/sql/repair.ts';
import { repairPartition } from '../../shared/sql/repair-partition.ts';
import { endRuns } from '../../shared/state/connectors.ts';
import { runFirstTask, stateOf, type Waiting } from './verify-wait.ts';

/** Keys of one order: it is one item of the state table. */
const keysPerOrder = 500;
const orderBytes = 100_000;
const lookMs = 200;

/** Has the source send the rows of these keys again, and waits until it has. */
export const repairKeys = async (waiting: Waiting, table: string, keys: readonly KeyTexts[]): Promise<void> => {
  for (const some of ordersOf(keys)) await carryOut(waiting, table, some);
};

function* ordersOf(keys: readonly KeyTexts[]): Iterable<string[][]> {
  let order: string[][] = [];
  let bytes = 0;
  for (const key of keys) {
    if (order.length === keysPerOrder || bytes > orderBytes) {
      yield order;
      order = [];
      bytes = 0;
    }
    order.push([...key]);
    bytes += JSON.stringify(key).length;
  }
  if (order.length > 0) yield order;
}

const carryOut = async (waiting: Waiting, table: string, keys: string[][]): Promise<void> => {
  const { edge, functions, signal } = waiting;
  const { name } = edge.source;
  const { partition, before } = await orderOf(waiting, table);
  if (before !== undefined && before.passed < before.repair.length)
    throw new ConnectError(
      'STATE_CONFLICT',
      `${name} still carries out an earlier repair of ${table}: try again later`,
    );
  const offset: RepairOffset<never> = { repair: keys, passed: 0, views: [] };
  await changeOffsets(waiting.table, name, [{ partition, offset }], userInfo().username, Date.now());
  // A run that lasts would not look at it before its time is over: it ends, and the next one does.
  if (edge.source.continuous === true) await endRuns(waiting.table, name);
  for (;;) {
    await runFirstTask(functions, await stateOf(waiting.table, name));
    const { before: now } = await orderOf(waiting, table);
    if (now !== undefined && JSON.stringify(now.repair) === JSON.stringify(keys) && now.passed === keys.length) return;
    await delay(lookMs, signal);
  }
};

/** The order of a table as it stands, beside the position of the changes. */
const orderOf = async (waiting: Waiting, table: string) => {
  const { progress } = await stateOf(waiting.table, waiting.edge.source.name);
  const stream = progress.offsets.find(({ partition }) => partition.table === undefined)?.partition as Partition;
  const offsets = {
    get: () => undefined,
    all: () => progress.offsets,
  };
  return { partition: repairPartition(stream, table), before: repairsOf<never>(stream, offsets).get(table) };
};
