import { describe, expect, test } from 'vitest';
import type * as z from 'zod';
import type { RecordInput } from '../../shared/connect/build.ts';
import {
  type Prepared,
  partitionKey,
  type Rejected,
  type SinkTask,
  type StoredOffset,
} from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { createRunner, partition, row, rowsOf, type SinkFixture, self } from './sink-runner.ts';

export type { SeenRecord, SinkFixture } from './sink-runner.ts';

/** One rule of the contract. `run` rejects where the sink breaks it, and gives 'n/a' where the rule does not concern it. */
export interface SinkRule {
  readonly title: string;
  run(fixture: SinkFixture): Promise<unknown>;
}

/** Runs the contract of `SinkTask` against a real destination: one test per rule. */
export const describeSink = <Schema extends z.ZodType>(
  name: string,
  makeFixture: () => Promise<SinkFixture<Schema>>,
): void => {
  describe(`${name}: the sink contract`, () => {
    test.each(sinkRules)('$title', async ({ run }) => {
      // The rules know the config only as something to hand back to the sink.
      const fixture = (await makeFixture()) as unknown as SinkFixture;
      try {
        await run(fixture);
      } finally {
        await fixture.cleanup?.();
      }
    });
  });
};

const commitsItself = (task: SinkTask) => task.offsets !== undefined || task.promote !== undefined;

export const sinkRules: readonly SinkRule[] = [
  {
    title: 'records arrive: one, none, many, of several groups and topics',
    async run(fixture) {
      const { record, open, put, expectSeen } = createRunner(fixture);
      const task = await open();
      const many = rowsOf(1_500, 10).map((r) => record(r));
      const mixed = [record(row(1)), record(row(2), 'customers'), record(row(3)), record(row(4), 'customers')];
      await put(task, [record(row(0))]);
      await put(task, []);
      await put(task, many);
      await put(task, mixed);
      await task.close();
      await expectSeen([record(row(0)), ...many, ...mixed]);
    },
  },
  {
    title: 'a batch is visible when put settles, before close',
    async run(fixture) {
      const { record, open, put, expectSeen } = createRunner(fixture);
      const task = await open();
      const records = rowsOf(3).map((r) => record(r));
      await put(task, records);
      await expectSeen(records);
      await task.close();
    },
  },
  {
    title: 'an empty batch moves the offset alone',
    async run(fixture) {
      const { record, open, put, current, nextCommit, expectSeen } = createRunner(fixture);
      const task = await open();
      await put(task, [record(row(1))]);
      const commit = await nextCommit(task, { line: 7 });
      await put(task, [], [commit]);
      expect(await current(task)).toMatchObject({ offset: { line: 7 }, seq: 2, writeId: commit.writeId });
      await task.close();
      await expectSeen([record(row(1))]);
    },
  },
  {
    title: 'a put that is repeated because its answer was lost doubles nothing',
    async run(fixture) {
      const { record, open, put, current, nextCommit, expectSeen, delivery } = createRunner(fixture);
      if (delivery === 'at-least-once') return 'n/a';
      const task = await open();
      const records = rowsOf(20).map((r) => record(r));
      await put(task, [record(row('first'))]);
      const commit = await nextCommit(task, { line: 20 });
      await put(task, records, [commit]);
      const repeated = await put(task, records, [commit]).catch((error) => error);
      // A two-phase sink can't know which of its staged batches was committed: it is fenced, and the next open promotes that one.
      if (task.promote === undefined) expect(repeated).toMatchObject({ rejected: [] });
      else if (repeated instanceof Error) expect(repeated).toMatchObject({ code: 'FENCED' });
      await task.close();
      const again = await open();
      expect(await current(again)).toMatchObject({ offset: { line: 20 }, seq: 2, writeId: commit.writeId });
      await again.close();
      await expectSeen([record(row('first')), ...records]);
    },
  },
  {
    title: 'a zombie that read before the offset moved is FENCED and leaves nothing',
    async run(fixture) {
      const { record, open, put, current, nextCommit, expectSeen } = createRunner(fixture);
      const task = await open();
      if (!commitsItself(task)) return task.close().then(() => 'n/a');
      const zombie = await open();
      for (const round of [1, 2]) {
        const stale = await nextCommit(zombie, { by: 'zombie' });
        await put(task, [record(row(round))], [await nextCommit(task, { by: 'live' })]);
        await expect(put(zombie, [record(row(`zombie-${round}`))], [stale])).rejects.toMatchObject({ code: 'FENCED' });
        await expect(put(zombie, [], [stale])).rejects.toMatchObject({ code: 'FENCED' });
      }
      expect(await current(task)).toMatchObject({ offset: { by: 'live' }, seq: 2 });
      await zombie.close();
      await task.close();
      await (await open()).close();
      await expectSeen([record(row(1)), record(row(2))]);
    },
  },
  {
    title: 'of two runs with the same batch at the same time, one commits',
    async run(fixture) {
      const { record, open, put, nextCommit, expectSeen } = createRunner(fixture);
      const tasks = [await open(), await open()];
      if (!commitsItself(tasks[0]!)) return Promise.all(tasks.map((task) => task.close())).then(() => 'n/a');
      const records = rowsOf(50).map((r) => record(r));
      const commits = await Promise.all(tasks.map((task) => nextCommit(task, { line: 50 })));
      const results = await Promise.allSettled(tasks.map((task, i) => put(task, records, [commits[i]!])));
      expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
      expect(results.find(({ status }) => status === 'rejected')).toMatchObject({ reason: { code: 'FENCED' } });
      for (const task of tasks) await task.close();
      await expectSeen(records);
    },
  },
  {
    title: 'owned offsets come back as they were put, apart for each deployment, connector and incarnation',
    async run(fixture) {
      const { openAs, put } = createRunner(fixture);
      const own = await openAs(self);
      if (own.offsets === undefined) return own.close().then(() => 'n/a');
      expect(await own.offsets()).toEqual([]);
      const offset = { file: 'ä"\\\n☃', list: [1, null, { deep: true }], big: 2 ** 53 - 1, zero: '\u0000', none: null };
      const commits = ['a', 'b'].map((name) => ({
        key: partitionKey({ name, part: 1 }),
        partition: { part: 1, name },
        offset: { ...offset, name },
        seq: 0,
        writeId: `w-${name}`,
      }));
      await put(own, [], commits);
      const expected = commits.map((commit) => ({ ...commit, seq: 1 }));
      const byKey = (offsets: readonly StoredOffset[]) => [...offsets].sort((a, b) => (a.key < b.key ? -1 : 1));
      expect(byKey(await own.offsets())).toEqual(expected);
      await own.close();
      for (const other of [{ deployment: 'other' }, { connector: 'other' }, { incarnation: 'i-2' }]) {
        const task = await openAs({ ...self, ...other });
        expect(await task.offsets!()).toEqual([]);
        await put(task, [], [{ ...commits[0]!, offset: other }]);
        await task.close();
      }
      const again = await openAs(self);
      expect(byKey(await again.offsets!())).toEqual(expected);
      await again.close();
    },
  },
  {
    title: 'an operator resets owned offsets once per id, and fences who read before',
    async run(fixture) {
      const { record, open, put, current, nextCommit } = createRunner(fixture);
      const task = await open();
      if (task.reset === undefined) return task.close().then(() => 'n/a');
      await put(task, [record(row(1))], [await nextCommit(task, { line: 1 })]);
      const stale = await nextCommit(task, { line: 2 });
      await task.reset('r-1', [{ partition, offset: { line: 0 } }]);
      const reset = await current(task);
      expect(reset).toMatchObject({ offset: { line: 0 } });
      expect(reset!.seq).toBeGreaterThan(1);
      await expect(put(task, [record(row(2))], [stale])).rejects.toMatchObject({ code: 'FENCED' });
      await put(task, [record(row(1))], [await nextCommit(task, { line: 1 })]);
      await task.reset('r-1', [{ partition, offset: { line: 0 } }]);
      expect(await current(task)).toMatchObject({ offset: { line: 1 } });
      const untouched = { name: 'never put' };
      await task.reset('r-2', [
        { partition, offset: null },
        { partition: untouched, offset: { line: 9 } },
      ]);
      expect((await current(task))?.offset ?? null).toBeNull();
      const other = (await task.offsets!()).find(({ key }) => key === partitionKey(untouched));
      expect(other).toMatchObject({ partition: untouched, offset: { line: 9 } });
      await task.close();
    },
  },
  {
    title: 'a crash between commit and promote is finished by the next open, once',
    async run(fixture) {
      const { record, open, put, current, nextCommit, commitState, expectSeen } = createRunner(fixture);
      const task = await open();
      if (task.promote === undefined) return task.close().then(() => 'n/a');
      const records = rowsOf(5).map((r) => record(r));
      const commits = [await nextCommit(task, { line: 5 })];
      const crash = async (row: Prepared) => {
        commitState(commits, row);
        throw new ConnectError('UNAVAILABLE', 'the answer to the commit was lost');
      };
      await expect(put(task, records, commits, { commit: crash })).rejects.toThrow('the answer to the commit was lost');
      await task.close();
      await expectSeen([]);
      const next = await open();
      await expectSeen(records);
      expect(await current(next)).toMatchObject({ offset: { line: 5 }, seq: 1 });
      await put(next, [record(row('after'))]);
      await next.close();
      await (await open()).close();
      await expectSeen([...records, record(row('after'))]);
    },
  },
  {
    title: 'a promote that is repeated shows its batch once',
    async run(fixture) {
      const { record, open, put, nextCommit, commitState, expectSeen } = createRunner(fixture);
      const task = await open();
      if (task.promote === undefined) return task.close().then(() => 'n/a');
      const records = rowsOf(5).map((r) => record(r));
      const commits = [await nextCommit(task, { line: 5 })];
      const rows: Prepared[] = [];
      await put(task, records, commits, {
        commit: async (row) => {
          rows.push(structuredClone(row));
          commitState(commits, row);
        },
      });
      await task.close();
      expect(rows).toHaveLength(1);
      const next = await open();
      for (const row of [...rows, ...rows]) await next.promote!(row);
      await next.close();
      await expectSeen(records);
    },
  },
  {
    title: 'a rejected record is named before the commit, and the rest is durable',
    async run(fixture) {
      const { rejects } = fixture;
      if (rejects === undefined) return 'n/a';
      const { record, open, put, current, nextCommit, expectSeen } = createRunner(fixture);
      const task = await open();
      const observer = await open();
      const good = rowsOf(40).map((r) => record(r));
      const mixed = good.toSpliced(3, 0, rejects).toSpliced(20, 0, rejects, rejects).toSpliced(43, 0, rejects);
      const expected = [3, 20, 21, 43];
      const rejected: Rejected[] = [];
      let calls = 0;
      const reject = async (more: readonly Rejected[]) => {
        calls++;
        rejected.push(...more);
        expect(await current(observer)).toBeUndefined();
      };
      await put(task, mixed, [await nextCommit(task, { line: 44 })], { reject });
      expect(calls).toBe(1);
      expect(rejected.map(({ index }) => index).sort((a, b) => a - b)).toEqual(expected);
      for (const { error } of rejected) expect(error).toMatchObject({ name: 'ConnectError', blame: 'row' });
      expect(await current(task)).toMatchObject({ offset: { line: 44 }, seq: 1 });
      await task.close();
      await observer.close();
      await expectSeen(good);
    },
  },
  {
    title: 'where rejecting throws, nothing is written and the error goes through',
    async run(fixture) {
      const { rejects } = fixture;
      if (rejects === undefined) return 'n/a';
      const { record, open, put, current, nextCommit, expectSeen } = createRunner(fixture);
      const task = await open();
      const reject = async () => {
        throw new ConnectError('RECORD_REJECTED', 'errors.tolerance is none', { blame: 'row' });
      };
      const commits = [await nextCommit(task, { line: 3 })];
      const records = [record(row(1)), rejects, record(row(2))];
      await expect(put(task, records, commits, { reject })).rejects.toThrow('errors.tolerance is none');
      expect(await current(task)).toBeUndefined();
      await expectSeen([]);
      await put(task, [record(row(1))], commits);
      await task.close();
      await expectSeen([record(row(1))]);
    },
  },
  {
    title: 'the last record of a key wins, within a batch and across batches',
    async run(fixture) {
      if (fixture.mode !== 'upsert') return 'n/a';
      const { record, open, put, expectSeen } = createRunner(fixture);
      const task = await open();
      await put(
        task,
        [row(1, 'old'), row(2, 'old'), row(1, 'newer'), row(2, 'newer'), row(1, 'newest')].map((r) => record(r)),
      );
      await expectSeen([record(row(1, 'newest')), record(row(2, 'newer'))]);
      await put(task, [record(row(2, 'last')), record(row(3))]);
      await task.close();
      await expectSeen([record(row(1, 'newest')), record(row(2, 'last')), record(row(3))]);
    },
  },
  {
    title: 'a tombstone deletes its key, in order with the records around it',
    async run(fixture) {
      if (fixture.mode !== 'upsert' || fixture.tombstones !== true) return 'n/a';
      const { record, open, put, expectSeen } = createRunner(fixture);
      const tombstone = (id: number): RecordInput => ({ ...record(row(id)), value: null });
      const task = await open();
      await put(task, [record(row(1)), record(row(2)), record(row(3)), tombstone(3), tombstone(9)]);
      await expectSeen([record(row(1)), record(row(2))]);
      await put(task, [tombstone(1), record(row(4)), tombstone(4), tombstone(2), record(row(2, 'back'))]);
      await put(task, [tombstone(1)]);
      await task.close();
      await expectSeen([record(row(2, 'back'))]);
    },
  },
  {
    title: 'a put whose signal is aborted throws and commits nothing',
    async run(fixture) {
      const { record, open, put, current, nextCommit, expectSeen } = createRunner(fixture);
      const task = await open();
      const commits = [await nextCommit(task, { line: 1 })];
      const signal = AbortSignal.abort(new Error('the budget ended'));
      await expect(put(task, [record(row(1))], commits, { signal })).rejects.toThrow();
      await task.close();
      const next = await open();
      expect(await current(next)).toBeUndefined();
      await expectSeen([]);
      await put(next, [record(row(1))], commits);
      await next.close();
      await expectSeen([record(row(1))]);
    },
  },
  {
    title: 'closing twice is once',
    async run(fixture) {
      const { record, open, put, expectSeen } = createRunner(fixture);
      await (await open()).close();
      const task = await open();
      await put(task, [record(row(1))]);
      await task.close();
      await task.close();
      await expectSeen([record(row(1))]);
    },
  },
];
