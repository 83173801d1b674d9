import { type Control, controlsOf, isControl, tellsRuns } from '../connect/control.ts';
import { ConnectError } from '../connect/errors.ts';
import { commitPlan } from './commit.ts';
import type { OffsetTable } from './offsets.ts';
import { type Judged, type Plan, planOf, type Target } from './plan.ts';
import { type RunTable, type StagedRun, stagingName, type Written } from './runs.ts';
import type { Connection, ControlledPut } from './session.ts';

/** The tables that hold the rows of runs that are not whole. */
export interface StagingTables {
  /** The name of the topic's own table. */
  tableName(topic: string): string;
  /** Statements, for inside a transaction, that make the run's rows those of the topic's own table. */
  publish(run: StagedRun): Promise<readonly string[]>;
  /** Also where it was never made. */
  drop(run: StagedRun): Promise<void>;
}

/** `visibility: batch`: rows of a run are staged, and become visible together at its end; others are written as they come. */
export const createVisibility = <C extends Connection, T extends Target>(
  offsets: OffsetTable<C>,
  runs: RunTable<C>,
): ControlledPut<C, T> => ({
  ensure: runs.ensure,
  // Of all topics: which of them a partition holds only its source knows. The end of one that was not meant says that its begin did not come.
  voided: () => [runs.endAll()],
  /** One control record of a run, or the records before the first one. */
  take({ groups, count }) {
    let before = 0;
    for (const group of groups) {
      if (tellsRuns(group)) return Math.max(before, 1);
      before += group.count;
    }
    return count;
  },
  async put(batch, judge, context, session) {
    const { connection, staging } = session;
    // Read before the offsets are compared: who reads what another run has moved is fenced by them.
    const open = await withoutOver();
    const found = batch.groups.find(tellsRuns);
    if (found === undefined) return putRows();
    if (batch.count > 1) throw sharedOffset(found.topic);
    await putControl(found.topic, controlsOf(found)[0]!);
    await withoutOver();

    /** The runs whose end has not come. The tables of the others, which nobody needs any more, are dropped. */
    async function withoutOver(): Promise<readonly StagedRun[]> {
      const { open, over } = await runs.read(connection);
      for (const run of over) {
        await staging.drop(run);
        await runs.forget(connection, run);
      }
      return open;
    }

    async function putRows(): Promise<void> {
      const judged = judge(batch);
      const runOf = new Map(open.map((run) => [run.topic, run]));
      const plan = await planOf(judged, session.targets, (topic) => runOf.get(topic));
      const counted = open.flatMap((run) => {
        const groups = judged.filter(({ group }) => group.topic === run.topic && !isControl(group.value.schema));
        const records = groups.reduce((sum, { group }) => sum + group.count, 0);
        return records === 0 ? [] : [runs.add(run, records, writtenWith(run, groups, plan))];
      });
      await commitPlan(plan, context, connection, beginningWith(offsets, counted), session.writer);
    }

    async function putControl(topic: string, control: Control): Promise<void> {
      if ((await offsets.begin(connection, context.offsets)) === 'mine') return void (await connection.run('ROLLBACK'));
      await connection.run([...(await statementsOf(topic, control)), 'COMMIT'].join(';'));
    }

    async function statementsOf(topic: string, control: Control): Promise<readonly string[]> {
      const ofTopic = open.filter((run) => run.topic === topic);
      if (control.event === 'commit') return [];
      if (control.event === 'begin') {
        const { run, scope } = control;
        const name = stagingName(topic, staging.tableName(topic), context.offsets);
        const begun = { topic, run, scope, staging: name, records: 0, written: undefined };
        return [...ofTopic.map(runs.end), runs.begin(begun)];
      }
      const ended = requireWhole(ofTopic, topic, control);
      await publish(ended);
      return [runs.end(ended)];
    }

    async function publish(run: StagedRun): Promise<void> {
      const statements = await staging.publish(run);
      if (statements.length === 0) return;
      await connection.run(statements.join(';')).catch((error: unknown) => {
        throw unpublished(run, error);
      });
    }
  },
});

const beginningWith = <C extends Connection>(
  offsets: OffsetTable<C>,
  statements: readonly string[],
): OffsetTable<C> => ({
  ...offsets,
  async begin(connection, commits) {
    const outcome = await offsets.begin(connection, commits);
    if (statements.length > 0) await connection.run(statements.join(';'));
    return outcome;
  },
});

const writtenWith = <T extends Target>(run: StagedRun, judged: Judged, { parts }: Plan<T>): Written | undefined => {
  const columns = new Set(run.written?.columns);
  for (const { target, group } of parts)
    if (group.topic === run.topic) for (const { name } of target.columns) columns.add(name);
  return columns.size === 0 ? undefined : { columns: [...columns], key: judged.at(-1)!.layout.key };
};

/** Nothing is published that is not the whole run. */
const requireWhole = (
  open: readonly StagedRun[],
  topic: string,
  { run, records }: Extract<Control, { readonly event: 'end' }>,
): StagedRun => {
  const ended = open.find((one) => one.run === run);
  const again =
    'nothing was published: reset the offset to before the begin of the run, or past its end to do without it';
  if (ended === undefined)
    throw new ConnectError('STATE_CONFLICT', `topic ${topic}: run ${run} ends, whose begin did not come; ${again}`);
  if (records !== undefined && records !== ended.records)
    throw new ConnectError(
      'STATE_CONFLICT',
      `topic ${topic}: run ${run} ends after ${records} records, and ${ended.records} came; ${again}`,
    );
  return ended;
};

/** No record is to blame for what only shows when all are together, least of all the one that ends the run. */
const unpublished = ({ topic, run }: StagedRun, error: unknown): unknown => {
  if (!(error instanceof ConnectError) || error.blame !== 'row') return error;
  return new ConnectError('UNAVAILABLE', `topic ${topic}: run ${run} cannot be published: ${error.message}`, {
    cause: error,
  });
};

const sharedOffset = (topic: string) =>
  new ConnectError(
    'CONFIG_INVALID',
    `a control record of topic ${topic} shares its offset with other records: a source gives it one of its own`,
  );
