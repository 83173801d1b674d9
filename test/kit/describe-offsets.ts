import { describe, expect, test } from 'vitest';
import { type OffsetCommit, type Partition, partitionKey } from '../../shared/connect/connector.ts';
import { connectorPk, preparedKey, resetKey } from '../../shared/state/keys.ts';
import {
  clearPrepared,
  clearReset,
  commitOffsets,
  loadProgress,
  type OffsetOwner,
  offsetsCache,
  offsetWrites,
  settleOffsets,
} from '../../shared/state/offsets.ts';
import { shapes } from '../../shared/state/shape.ts';
import type { Table } from '../../shared/state/table.ts';
import { losingAnswers, resending } from './losing-answers.ts';

const owner: OffsetOwner = { connector: 'orders', incarnation: 'i1' };

const commitOf = (
  partition: Partition,
  seq: number,
  offset: unknown = { line: seq },
  writeId = `w${seq}`,
): OffsetCommit => ({
  key: partitionKey(partition),
  partition,
  offset,
  seq,
  writeId,
});

/** Offsets, prepared rows and resets over a table (invariant 1). */
export const describeOffsets = (name: string, makeTable: () => Promise<Table>): void => {
  describe(`${name}: offsets`, () => {
    const a = { file: 'a' };
    const b = { file: 'b' };

    test('nothing is there at first', async () => {
      expect(await loadProgress(await makeTable(), owner)).toEqual({ offsets: [], prepared: [] });
    });

    test('a commit moves the offset and its seq by one', async () => {
      const table = await makeTable();
      for (const seq of [0, 1, 2]) await commitOffsets(table, owner, [commitOf(a, seq)]);
      expect((await loadProgress(table, owner)).offsets).toEqual([
        { key: '{"file":"a"}', partition: a, offset: { line: 2 }, seq: 3, writeId: 'w2' },
      ]);
    });

    test('any JSON is an offset, and any flat object a partition', async () => {
      const table = await makeTable();
      const odd = { é: '😀"\\\n', n: 1.5, z: null, a: true, '': '#' };
      const offset = { gtid: 'ä\u0000', nested: [null, { deep: [1e21, false, ''] }] };
      const commits = [commitOf(odd, 0, offset), commitOf(a, 0, null), commitOf(b, 0, 'text')];
      await commitOffsets(table, owner, commits);
      const { offsets } = await loadProgress(table, owner);
      const stored = commits.map(({ seq, ...rest }) => ({ ...rest, seq: seq + 1 }));
      expect(offsets).toHaveLength(3);
      expect(offsets).toEqual(expect.arrayContaining(stored));
    });

    test("the order of a partition's fields does not matter", async () => {
      const table = await makeTable();
      await commitOffsets(table, owner, [commitOf({ x: 1, y: 2 }, 0)]);
      await commitOffsets(table, owner, [commitOf({ y: 2, x: 1 }, 1)]);
      expect((await loadProgress(table, owner)).offsets).toMatchObject([{ seq: 2 }]);
    });

    test.each([
      ['behind', 1],
      ['a first commit where there is one', 0],
      ['ahead', 3],
    ])('a commit that is %s is FENCED, whole', async (_title, seq) => {
      const table = await makeTable();
      await commitOffsets(table, owner, [commitOf(a, 0)]);
      await commitOffsets(table, owner, [commitOf(a, 1)]);
      const before = await loadProgress(table, owner);
      const stale = commitOf(a, seq, { line: 'stale' }, 'other');
      await expect(commitOffsets(table, owner, [stale])).rejects.toMatchObject({ code: 'FENCED', retriable: false });
      await expect(commitOffsets(table, owner, [commitOf(b, 0), stale])).rejects.toMatchObject({ code: 'FENCED' });
      await expect(commitOffsets(table, owner, [stale], { id: 'p', task: 0, data: {} })).rejects.toMatchObject({
        code: 'FENCED',
      });
      expect(await loadProgress(table, owner)).toEqual(before);
    });

    test.each([
      ['told', losingAnswers],
      ['resent', resending],
    ] as const)('a commit whose answer was lost (%s) is recognised by its writeId', async (kind, lose) => {
      const table = lose(await makeTable());
      await commitOffsets(table, owner, [commitOf(b, 0)]);
      const commits = [commitOf(a, 0, { line: 1 }, 'mine'), commitOf(b, 1, { line: 1 }, 'mine')];
      table.loseAnswers(1);
      const attempt = commitOffsets(table, owner, commits, { id: 'p', task: 0, data: 1 });
      if (kind === 'told') {
        await expect(attempt).rejects.toMatchObject({ code: 'UNAVAILABLE', retriable: true });
        await commitOffsets(table, owner, commits, { id: 'p', task: 0, data: 1 });
      } else await attempt;
      const { offsets, prepared } = await loadProgress(table, owner);
      expect(offsets).toMatchObject([
        { partition: a, seq: 1 },
        { partition: b, seq: 2 },
      ]);
      expect(prepared).toEqual([{ id: 'p', task: 0, data: 1 }]);
    });

    test('a lost commit that somebody has moved on from is FENCED', async () => {
      const table = await makeTable();
      const lost = [commitOf(a, 0, { line: 1 }, 'mine')];
      await commitOffsets(table, owner, lost);
      await commitOffsets(table, owner, [commitOf(a, 1, { line: 2 }, 'other')]);
      await expect(commitOffsets(table, owner, lost)).rejects.toMatchObject({ code: 'FENCED' });
    });

    test('of many commits at one seq, one happens', async () => {
      const table = await makeTable();
      const attempts = Array.from({ length: 8 }, (_, i) =>
        commitOffsets(table, owner, [commitOf(a, 0, { by: i }, `w${i}`), commitOf(b, 0, { by: i }, `w${i}`)]),
      );
      const results = await Promise.allSettled(attempts);
      const winner = results.findIndex(({ status }) => status === 'fulfilled');
      expect(results.filter(({ status }) => status === 'rejected')).toHaveLength(7);
      for (const result of results)
        if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'FENCED' });
      expect((await loadProgress(table, owner)).offsets).toMatchObject([
        { offset: { by: winner } },
        { offset: { by: winner } },
      ]);
    });

    test('settling looks only at its own part of a transaction', async () => {
      const table = await makeTable();
      await commitOffsets(table, owner, [commitOf(a, 0, {}, 'mine')]);
      const other = { put: { pk: 'x', sk: 'x' }, when: {} };
      const commits = [commitOf(a, 1)];
      const result = await table.write([other, ...offsetWrites(owner, commits)]);
      expect(settleOffsets(commits, result, 1)).toBe('unsettled');
      const again = [commitOf(a, 0, {}, 'mine')];
      expect(settleOffsets(again, await table.write([other, ...offsetWrites(owner, again)]), 1)).toBe('committed');
    });

    test('a partition longer than a key can hold is an offset like any other', async () => {
      const table = await makeTable();
      const long = ['x', 'y'].map((end) => ({ path: `${'ä'.repeat(900)}${end}` }));
      for (const seq of [0, 1])
        await commitOffsets(
          table,
          owner,
          long.map((partition) => commitOf(partition, seq)),
        );
      const { offsets } = await loadProgress(table, owner);
      expect(offsets.map(({ partition }) => partition)).toEqual(expect.arrayContaining(long));
      expect(offsets.map(({ key, seq }) => [key, seq])).toEqual(
        offsets.map(({ partition }) => [partitionKey(partition), 2]),
      );
      await expect(commitOffsets(table, owner, [commitOf(long[0]!, 0, {}, 'x')])).rejects.toMatchObject({
        code: 'FENCED',
      });
    });

    test('incarnations and connectors never meet', async () => {
      const table = await makeTable();
      const owners = [
        owner,
        { ...owner, incarnation: 'i10' },
        { ...owner, incarnation: 'i' },
        { ...owner, connector: 'order' },
      ];
      for (const [i, one] of owners.entries()) {
        expect(await loadProgress(table, one)).toEqual({ offsets: [], prepared: [] });
        await commitOffsets(table, one, [commitOf(a, 0, { by: i })], { id: `p${i}`, task: 0, data: i });
      }
      for (const [i, one] of owners.entries())
        expect(await loadProgress(table, one)).toMatchObject({
          offsets: [{ offset: { by: i }, seq: 1 }],
          prepared: [{ id: `p${i}` }],
        });
    });

    test('a second attempt of a batch whose first was committed is FENCED, and prepares nothing', async () => {
      const table = await makeTable();
      const commits = [commitOf(a, 0)];
      await commitOffsets(table, owner, commits, { id: 'first', task: 0, data: 1 });
      await expect(commitOffsets(table, owner, commits, { id: 'second', task: 0, data: 2 })).rejects.toMatchObject({
        code: 'FENCED',
      });
      expect((await loadProgress(table, owner)).prepared).toEqual([{ id: 'first', task: 0, data: 1 }]);
      // The same attempt again, its answer lost, is no second one.
      await commitOffsets(table, owner, commits, { id: 'first', task: 0, data: 1 });
    });

    test('a prepared row is committed with its offset, and cleared by itself', async () => {
      const table = await makeTable();
      const rows = [0, 1].map((task) => ({ id: `id-${task}`, task, data: { stage: 'x', bytes: 2 ** 40 } }));
      for (const [seq, row] of rows.entries()) await commitOffsets(table, owner, [commitOf(a, seq)], row);
      expect((await loadProgress(table, owner)).prepared).toEqual(rows);
      await clearPrepared(table, owner, rows[0]!);
      await clearPrepared(table, owner, rows[0]!);
      expect(await loadProgress(table, owner)).toMatchObject({ offsets: [{ seq: 2 }], prepared: [rows[1]] });
    });

    test('a pending reset is read with the offsets and cleared by its id only', async () => {
      const table = await makeTable();
      const reset = {
        id: 'r1',
        offsets: [
          { partition: a, offset: { line: 7 } },
          { partition: b, offset: null },
        ],
      };
      await table.write([
        {
          put: {
            ...resetKey(owner.connector, owner.incarnation),
            v: shapes.reset,
            id: reset.id,
            offsets: JSON.stringify(reset.offsets),
          },
        },
      ]);
      expect(await loadProgress(table, owner)).toEqual({ offsets: [], prepared: [], reset });
      await clearReset(table, owner, 'r0');
      expect((await loadProgress(table, owner)).reset).toEqual(reset);
      await clearReset(table, owner, 'r1');
      expect(await loadProgress(table, owner)).toEqual({ offsets: [], prepared: [] });
    });

    test('a cache of more offsets than a transaction holds is read back as it was', async () => {
      const table = await makeTable();
      const stored = Array.from({ length: 205 }, (_, i) => {
        const partition = { file: `${String(i).padStart(3, '0')}` };
        return { key: partitionKey(partition), partition, offset: { line: i }, seq: i, writeId: `w${i}` };
      });
      const cache = offsetsCache(table, owner, []);
      await cache(stored);
      await cache([]);
      expect((await loadProgress(table, owner)).offsets).toEqual(stored);
      await cache([{ ...stored[0]!, seq: 9 }]);
      expect((await loadProgress(table, owner)).offsets[0]).toMatchObject({ seq: 9 });
    });

    test('a cache leaves alone what another task has told since it was read', async () => {
      const table = await makeTable();
      const at = (name: string, seq: number) => ({
        key: partitionKey({ name }),
        partition: { name },
        offset: { seq },
        seq,
        writeId: 'w',
      });
      await offsetsCache(table, owner, [])([at('ours', 1), at('theirs', 1)]);
      const { offsets } = await loadProgress(table, owner);
      await offsetsCache(table, owner, offsets)([at('theirs', 5)]);
      await offsetsCache(table, owner, offsets)([at('ours', 2), at('theirs', 3)]);
      expect((await loadProgress(table, owner)).offsets).toMatchObject([{ seq: 2 }, { seq: 5 }]);
    });

    test('committing nothing writes nothing', async () => {
      const table = await makeTable();
      await commitOffsets({ ...table, write: () => Promise.reject(new Error('a write')) }, owner, []);
    });

    test.each(['offset', 'prepared', 'reset'] as const)(
      'a newer %s stops the reader with SHAPE_TOO_NEW',
      async (shape) => {
        const table = await makeTable();
        await commitOffsets(table, owner, [commitOf(a, 0)], { id: 'p', task: 0, data: {} });
        await table.write([
          { put: { ...resetKey(owner.connector, owner.incarnation), v: shapes.reset, id: 'r', offsets: '[]' } },
        ]);
        const items = await table.query(connectorPk(owner.connector));
        const found = {
          offset: items.find(({ sk }) => sk.includes('OFFSET#')),
          prepared: await table.get(preparedKey(owner.connector, owner.incarnation, 0, 'p')),
          reset: await table.get(resetKey(owner.connector, owner.incarnation)),
        }[shape]!;
        for (const v of [shapes[shape] + 1, 'x', 0]) {
          await table.write([{ put: { ...found, v } }]);
          const code = v === shapes[shape] + 1 ? 'SHAPE_TOO_NEW' : 'CORRUPT';
          await expect(loadProgress(table, owner)).rejects.toMatchObject({ code });
        }
      },
    );
  });
};
