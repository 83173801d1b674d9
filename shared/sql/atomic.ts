import { batchOfGroups, type RecordBatch, type RecordGroup, sliceBatch } from '../connect/batch.ts';
import type { PutContext, Rejected } from '../connect/connector.ts';
import { controlsOf, isControl } from '../connect/control.ts';
import { ConnectError } from '../connect/errors.ts';
import { canonicalJson } from '../connect/json.ts';
import type { Value } from '../connect/schema.ts';
import type { OffsetTable } from './offsets.ts';
import { byTable, type Plan, planOf, type Target } from './plan.ts';
import type { Connection, ControlledPut } from './session.ts';
import type { StagedBatches } from './staged-batches.ts';

/** A batch that is to be written, and how. */
interface Chunk<T extends Target> {
  readonly batch: RecordBatch;
  readonly plan: Plan<T>;
}

/**
 * `transactions: atomic`: what the source changed in one transaction becomes visible in one. A put ends with the last transaction that
 * ends in it; what is behind that is staged in the destination as it came, and written by the put that has its end.
 */
export const createAtomic = <C extends Connection, T extends Target>(
  offsets: OffsetTable<C>,
  staged: StagedBatches<C>,
): ControlledPut<C, T> => ({
  ensure: staged.ensure,
  voided: (partitions) => partitions.map(staged.clear),
  take: (batch) => endOf(batch) || batch.count,
  async put(batch, judge, context, session) {
    const { connection, targets, writer } = session;
    if (context.offsets.length > 1) throw severalPartitions(context);
    const partition = context.offsets[0]?.key ?? '';
    // Read before the offsets are compared: who reads what another run has moved is fenced by them.
    const before = await staged.list(connection, partition);
    const end = endOf(batch);
    const rest = withoutControl(sliceBatch(batch, end, batch.count));
    const last = end === 0 ? undefined : await chunkOf(withoutControl(sliceBatch(batch, 0, end)));
    // What changes tables comes before the transaction of the rows, and so does what is known to be refused: before more of it is staged.
    await chunkOf(rest);
    if (last !== undefined)
      for (const number of before) await chunkOf(await staged.read(connection, partition, number));
    const closing = [
      ...(last === undefined || before.length === 0 ? [] : [staged.clear(partition)]),
      ...(rest.count === 0 ? [] : await staged.add(partition, (before.at(-1) ?? 0) + 1, rest)),
      'COMMIT',
    ];
    await write('by table').catch(async (error: unknown) => {
      if (!(error instanceof ConnectError) || error.blame === 'system') throw error;
      await connection.run('ROLLBACK');
      await write('in source order');
    });

    async function chunkOf(of: RecordBatch): Promise<Chunk<T>> {
      const plan = await planOf(judge(of), targets);
      if (plan.rejected.length > 0) throw refused(of, plan.rejected[0]!);
      return { batch: of, plan };
    }

    /** One at a time: a transaction of any size needs the memory of one batch. */
    async function* chunks(): AsyncGenerator<Chunk<T>> {
      if (last === undefined) return;
      for (const number of before) yield await chunkOf(await staged.read(connection, partition, number));
      yield last;
    }

    async function write(how: 'by table' | 'in source order'): Promise<void> {
      if ((await offsets.begin(connection, context.offsets)) === 'mine') return void (await connection.run('ROLLBACK'));
      for await (const { batch: of, plan } of chunks()) {
        if (how === 'by table') await writer.write(byTable(plan.parts), []);
        else {
          const [rejected] = await writer.writeApart(plan.inSourceOrder());
          if (rejected !== undefined) throw refused(of, rejected);
        }
      }
      for (const statement of closing) await connection.run(statement);
    }
  },
});

/** The records up to the last one that ends a transaction; 0 where none does. The end of a run is the end of what it holds as well. */
const endOf = ({ groups }: RecordBatch): number => {
  let start = 0;
  let end = 0;
  for (const group of groups) {
    if (isControl(group.value.schema)) {
      const last = controlsOf(group).findLastIndex(({ event }) => event !== 'begin');
      if (last !== -1) end = start + last + 1;
    }
    start += group.count;
  }
  return end;
};

const isControlGroup = ({ value }: RecordGroup): boolean => isControl(value.schema);

const withoutControl = (batch: RecordBatch): RecordBatch =>
  batch.groups.some(isControlGroup) ? batchOfGroups(batch.groups.filter((group) => !isControlGroup(group))) : batch;

/** A transaction without one of its rows is none, so the row is no dead letter, and the task stops. */
const refused = (batch: RecordBatch, { index, error }: Rejected): ConnectError => {
  const { topic, key } = [...batch][index]!;
  return new ConnectError(
    'RECORD_REJECTED',
    `the transaction of the record of topic ${topic} with the key ${canonicalJson(key as Value)} cannot be written: ${error.message}; with transactions atomic no record is left out: mend the table, or set transactions to batch`,
    { cause: error },
  );
};

const severalPartitions = ({ offsets }: PutContext) =>
  new ConnectError(
    'CONFIG_INVALID',
    `transactions atomic needs one order of all records, and a batch came from ${offsets.map(({ key }) => key).join(' and ')}: read one topic, or one source directly`,
  );
