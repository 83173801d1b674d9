import { describe, expect, test } from 'vitest';
import { taskKey } from '../../shared/state/keys.ts';
import {
  acquireLease,
  clearDeadLease,
  isHeld,
  newTaskRow,
  readTask,
  restartTask,
  type TaskRow,
  updateHeld,
} from '../../shared/state/lease.ts';
import { shapes } from '../../shared/state/shape.ts';
import type { Table } from '../../shared/state/table.ts';
import { losingAnswers, resending } from './losing-answers.ts';

const connector = 'orders';
const released = { owner: undefined, expiresAtMs: undefined } as unknown as Partial<TaskRow>;
const failed = {
  ...released,
  state: 'FAILED',
  failures: 1,
  trace: 'UNAVAILABLE: x',
  retriable: true,
} as Partial<TaskRow>;

/** The lease of a task over a table (invariant 4). */
export const describeLease = (name: string, makeTable: () => Promise<Table>): void => {
  describe(`${name}: leases`, () => {
    const acquire = (table: Table, owner: string, nowMs = 0, expiresAtMs = nowMs + 100, task = 0) =>
      acquireLease(table, { connector, task, owner, nowMs, expiresAtMs });
    const take = async (table: Table, owner: string, nowMs = 0): Promise<TaskRow> => {
      const acquired = await acquire(table, owner, nowMs);
      if ('refused' in acquired) throw new Error(`refused: ${acquired.refused}`);
      return acquired.lease;
    };
    const release = (table: Table, lease: TaskRow, change: Partial<TaskRow> = {}) =>
      updateHeld(table, connector, lease, { ...released, runs: lease.runs + 1, ...change });

    test('a task without a row is free', async () => {
      const table = await makeTable();
      expect(await readTask(table, connector, 3)).toEqual(newTaskRow(3));
      expect(await table.query(`connector#${connector}`)).toEqual([]);
    });

    test('one of many takes it, at first and after a release', async () => {
      const table = await makeTable();
      for (const round of [0, 1]) {
        const results = await Promise.all(Array.from({ length: 8 }, (_, i) => acquire(table, `o${round}-${i}`)));
        const leases = results.flatMap((result) => ('lease' in result ? [result.lease] : []));
        expect(leases).toHaveLength(1);
        expect(results.filter((result) => 'refused' in result && result.refused === 'busy')).toHaveLength(7);
        expect(await readTask(table, connector, 0)).toEqual(leases[0]);
        expect(await release(table, leases[0]!)).toBe(true);
      }
    });

    test('held until its deadline, not a millisecond longer', async () => {
      const table = await makeTable();
      const lease = await take(table, 'a', 0);
      expect(isHeld(lease, 99)).toBe(true);
      expect(await acquire(table, 'b', 99)).toEqual({ refused: 'busy' });
      expect(isHeld(lease, 100)).toBe(false);
      expect(await take(table, 'b', 100)).toMatchObject({ owner: 'b', deaths: 1 });
    });

    test('no two holders have one epoch: a free lease that was taken and released since it was read is busy', async () => {
      const table = await makeTable();
      await release(table, await take(table, 'a'));
      const late: Table = {
        ...table,
        async get(key) {
          const read = await table.get(key);
          await release(table, await take(table, 'b'));
          return read;
        },
      };
      expect(await acquire(late, 'c')).toEqual({ refused: 'busy' });
      expect(await take(table, 'd')).toMatchObject({ epoch: 3 });
    });

    test('tasks of a connector have leases of their own', async () => {
      const table = await makeTable();
      for (const task of [0, 1, 10]) expect(await acquire(table, 'a', 0, 100, task)).toHaveProperty('lease');
    });

    test('a release frees it and keeps the totals; a takeover counts a death, a release after it does not', async () => {
      const table = await makeTable();
      await release(table, await take(table, 'a'), { records: 5 });
      expect(await readTask(table, connector, 0)).toEqual({ ...newTaskRow(0), epoch: 1, runs: 1, records: 5 });
      const died = await take(table, 'b', 0);
      expect(died).toMatchObject({ deaths: 0, epoch: 2, records: 5 });
      const taken = await take(table, 'c', 1_000);
      expect(taken).toMatchObject({ deaths: 1, epoch: 3 });
      const takenAgain = await take(table, 'd', 2_000);
      expect(takenAgain).toMatchObject({ deaths: 2, epoch: 4 });
      await release(table, takenAgain, { deaths: 0 });
      expect(await take(table, 'e', 3_000)).toMatchObject({ deaths: 0, epoch: 5 });
    });

    test('a zombie can write nothing into the row that was taken over', async () => {
      const table = await makeTable();
      const zombie = await take(table, 'zombie', 0);
      const live = await take(table, 'live', 1_000);
      expect(await release(table, zombie, { records: 99 })).toBe(false);
      expect(await updateHeld(table, connector, zombie, { suspect: 'x' })).toBe(false);
      expect(await readTask(table, connector, 0)).toEqual(live);
      await release(table, live);
      expect(await release(table, zombie, { records: 99 })).toBe(false);
      expect(await readTask(table, connector, 0)).toMatchObject({ records: 0, epoch: 2 });
    });

    test('the epoch only grows: through releases, deaths, failures and restarts', async () => {
      const table = await makeTable();
      let last = 0;
      const grows = async () => {
        const { epoch } = await readTask(table, connector, 0);
        expect(epoch).toBeGreaterThanOrEqual(last);
        last = epoch;
      };
      for (let round = 0; round < 3; round++) {
        const before = last;
        await release(table, await take(table, 'a', round * 1_000), {});
        await grows();
        await take(table, 'b', round * 1_000);
        await grows();
        await release(table, await take(table, 'c', round * 1_000 + 500), failed);
        await grows();
        expect(await restartTask(table, connector, 0, true)).toBe(true);
        await grows();
        expect(last).toBe(before + 4);
      }
    });

    test('a failed task waits for its restart', async () => {
      const table = await makeTable();
      await release(table, await take(table, 'a'), failed);
      expect(await acquire(table, 'b', 1_000)).toEqual({ refused: 'failed' });
      expect(await restartTask(table, connector, 0, false)).toBe(true);
      expect(await restartTask(table, connector, 0, false)).toBe(false);
      const { trace, retriable, ...row } = await readTask(table, connector, 0);
      expect(row).toMatchObject({ state: 'RUNNING', failures: 1, deaths: 0 });
      expect([trace, retriable]).toEqual([undefined, undefined]);
      await release(table, await take(table, 'c', 2_000), { ...failed, failures: 2 });
      expect(await restartTask(table, connector, 0, true)).toBe(true);
      expect(await readTask(table, connector, 0)).toMatchObject({ failures: 0 });
    });

    test('a task that runs or never ran is not restarted', async () => {
      const table = await makeTable();
      expect(await restartTask(table, connector, 0, true)).toBe(false);
      const lease = await take(table, 'a');
      expect(await restartTask(table, connector, 0, true)).toBe(false);
      expect(await readTask(table, connector, 0)).toEqual(lease);
    });

    test('what a death suspects is kept for the next holder, and for none after a release', async () => {
      const table = await makeTable();
      const lease = await take(table, 'a', 0);
      expect(await updateHeld(table, connector, lease, { suspect: 'record 7' })).toBe(true);
      const next = await take(table, 'b', 1_000);
      expect(next).toMatchObject({ suspect: 'record 7', deaths: 1 });
      await release(table, next);
      expect(await take(table, 'c', 2_000)).not.toHaveProperty('suspect');
    });

    test('the lease of a dead invocation is cleared by its own name only', async () => {
      const table = await makeTable();
      const lease = await take(table, 'dead', 0);
      await clearDeadLease(table, connector, 0, 'other', 1);
      expect(await acquire(table, 'b', 1)).toEqual({ refused: 'busy' });
      await clearDeadLease(table, connector, 0, 'dead', 1);
      expect(await take(table, 'b', 1)).toMatchObject({ deaths: 1, epoch: lease.epoch + 1 });
      await clearDeadLease(table, connector, 0, 'dead', 2);
      expect(await acquire(table, 'c', 2)).toEqual({ refused: 'busy' });
    });

    test('the lease of a dead invocation lasts as long as what it sent may be on its way, and never longer than before', async () => {
      const table = await makeTable();
      await take(table, 'dead', 0);
      await clearDeadLease(table, connector, 0, 'dead', 20);
      expect(await acquire(table, 'b', 19)).toEqual({ refused: 'busy' });
      await clearDeadLease(table, connector, 0, 'dead', 1_000_000);
      expect(await take(table, 'b', 20)).toMatchObject({ deaths: 1 });
    });

    test('lost answers: taking and releasing are recognised when they are sent again', async () => {
      const table = resending(await makeTable());
      for (const owner of ['a', 'b']) {
        table.loseAnswers(1);
        const lease = await take(table, owner);
        expect(lease).toMatchObject({ owner, deaths: 0 });
        table.loseAnswers(1);
        expect(await release(table, lease)).toBe(true);
        expect(await readTask(table, connector, 0)).not.toHaveProperty('owner');
      }
      const lease = await take(table, 'c');
      table.loseAnswers(1);
      expect(await release(table, lease, failed)).toBe(true);
      table.loseAnswers(1);
      expect(await restartTask(table, connector, 0, true)).toBe(true);
    });

    test('a lost answer to taking is no lease: it expires, and the death is counted', async () => {
      const table = losingAnswers(await makeTable());
      table.loseAnswers(1);
      await expect(acquire(table, 'a', 0)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
      expect(await acquire(table, 'b', 50)).toEqual({ refused: 'busy' });
      expect(await take(table, 'b', 100)).toMatchObject({ deaths: 1 });
    });

    test('a newer row stops everybody with SHAPE_TOO_NEW and is left as it is', async () => {
      const table = await makeTable();
      const row = { ...taskKey(connector, 0), v: shapes.task + 1, epoch: 7, state: 'FAILED' };
      await table.write([{ put: row }]);
      const tooNew = { code: 'SHAPE_TOO_NEW' };
      await expect(readTask(table, connector, 0)).rejects.toMatchObject(tooNew);
      await expect(acquire(table, 'a')).rejects.toMatchObject(tooNew);
      await expect(restartTask(table, connector, 0, true)).rejects.toMatchObject(tooNew);
      await expect(clearDeadLease(table, connector, 0, 'a', 0)).rejects.toMatchObject(tooNew);
      expect(await table.get(row)).toEqual(row);
    });
  });
};
