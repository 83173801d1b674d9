import { describe, expect, test } from 'vitest';
import { batchOf, type RecordInput } from '../../shared/connect/build.ts';
import type { SinkTask } from '../../shared/connect/connector.ts';
import { controlRecord } from '../../shared/connect/control.ts';
import type { Struct } from '../../shared/connect/schema.ts';
import { runsShape } from '../../shared/sql/runs.ts';
import { changesOf } from './changes.ts';
import { keyed, nextCommit, putRecords, refused } from './put-records.ts';
import type { SqlSink } from './sql-sink.ts';
import { createWire } from './wire.ts';

const batch = { visibility: 'batch' };
const begin = (run = 'r1', scope: 'replace' | 'merge' = 'replace', topic = 't') =>
  controlRecord(topic, { event: 'begin', run, scope });
const end = (records: number | undefined, run = 'r1', topic = 't') =>
  controlRecord(topic, { event: 'end', run, records });
const row = (id: number, s = `s${id}`, topic = 't') => keyed(id, { s }, { s: 'string' }, topic);
const rows = (from: number, to: number, s?: string, topic = 't') =>
  Array.from({ length: to - from }, (_, i) => row(from + i, s, topic));

/** How a sink for tables shows the records of a run: all at once, or not at all. */
export const describeVisibility = (
  name: string,
  { openSink, withSink, run, all, port, through, tables }: SqlSink,
): void => {
  const shown = (topic = 't') => all(`SELECT id, s FROM ${topic} ORDER BY id`);
  const expectedRows = (records: readonly RecordInput[]) =>
    records.map(({ value }) => [(value as Struct).id, (value as Struct).s]);
  const put = async (task: SinkTask, ...batches: readonly (readonly RecordInput[])[]) => {
    const rejected = [];
    for (const one of batches) rejected.push(...(await putRecords(task, one)).rejected);
    return rejected;
  };
  const leftovers = async () => [
    (await tables()).filter((table) => table.startsWith('sluice_run_')),
    await all('SELECT run FROM sluice_runs'),
  ];

  describe(`${name}: visibility batch`, () => {
    test('readers see the old content or the new, and never a part', async () => {
      await withSink(batch, async (task) => {
        await put(task, rows(0, 300, 'old'));
        const seen = new Set<string>();
        let isLoading = true;
        const reading = (async () => {
          while (isLoading) seen.add(JSON.stringify(await all('SELECT s, count(*) FROM t GROUP BY s ORDER BY s')));
        })();
        await put(task, [begin()]);
        for (let at = 100; at < 2_100; at += 250) await put(task, rows(at, at + 250, 'new'));
        await put(task, [end(2_000)]);
        isLoading = false;
        await reading;
        const contents = Array.from(seen, (one) => JSON.parse(one).map(([s, n]: [string, unknown]) => [s, Number(n)]));
        for (const content of contents) expect([[['old', 300]], [['new', 2_000]]]).toContainEqual(content);
        expect(contents).toContainEqual([['old', 300]]);
      });
      expect(await shown()).toEqual(expectedRows(rows(100, 2_100, 'new')));
      expect(await leftovers()).toEqual([[], []]);
    });

    test('a run of scope replace is the whole content: rows that are not in it are deleted, others are updated where they are', async () => {
      await run(`CREATE TABLE t (id integer PRIMARY KEY, s varchar(9), mine varchar(9)); INSERT INTO t VALUES (1, 'a', 'x'), (2, 'b', 'y'), (3, 'c', 'z');
        CREATE TABLE child (id integer PRIMARY KEY, t integer, FOREIGN KEY (t) REFERENCES t (id) ON DELETE CASCADE); INSERT INTO child VALUES (1, 1), (2, 2)`);
      await withSink(batch, (task) => put(task, [begin()], [row(1), row(3), row(4)], [end(3)]));
      expect(await all('SELECT * FROM t ORDER BY id')).toEqual([
        [1, 's1', 'x'],
        [3, 's3', 'z'],
        [4, 's4', null],
      ]);
      expect(await all('SELECT * FROM child')).toEqual([[1, 1]]);
    });

    test('a run of scope merge leaves the other rows', async () => {
      await withSink(batch, (task) =>
        put(task, rows(0, 4), [begin('w1', 'merge')], [row(2, 'x'), row(5, 'x')], [end(2, 'w1')]),
      );
      expect(await shown()).toEqual([
        [0, 's0'],
        [1, 's1'],
        [2, 'x'],
        [3, 's3'],
        [5, 'x'],
      ]);
    });

    test('rows without a key: replace empties the table, merge adds to it', async () => {
      const flat = (id: number) => ({ topic: 't', value: { id, s: 'x' }, valueSchema: row(1).valueSchema });
      await withSink(batch, async (task) => {
        await put(task, [flat(1), flat(1)], [begin('r1', 'merge')], [flat(2)], [flat(2)], [end(2)]);
        expect(await shown()).toEqual([
          [1, 'x'],
          [1, 'x'],
          [2, 'x'],
          [2, 'x'],
        ]);
        await put(task, [begin('r2')], [flat(3), flat(4)], [end(2, 'r2')]);
        expect(await shown()).toEqual([
          [3, 'x'],
          [4, 'x'],
        ]);
      });
    });

    test('an empty run of scope replace empties the table, also one that is not there', async () => {
      await withSink(batch, async (task) => {
        await put(task, [begin()], [end(0)], rows(0, 3), [begin('r2')], [end(0, 'r2')]);
      });
      expect(await shown()).toEqual([]);
    });

    test('records before and after a run are written as they come, in order', async () => {
      await withSink(batch, async (task) => {
        await put(task, [row(1, 'before'), row(9, 'before')], [begin()], [row(1), row(2)]);
        expect(await shown()).toEqual([
          [1, 'before'],
          [9, 'before'],
        ]);
        await put(task, [end(2)], [row(2, 'after'), row(3, 'after'), { ...row(1), value: null }]);
      });
      expect(await shown()).toEqual([
        [2, 'after'],
        [3, 'after'],
      ]);
    });

    test('a run that is sent again, and a run that another one overtakes, show nothing of what came before', async () => {
      await withSink(batch, (task) => put(task, [begin()], rows(0, 5), [row(77)], [begin()], rows(3, 5)));
      await withSink(batch, async (task) => {
        await put(task, [end(2)]);
        expect(await shown()).toEqual(expectedRows(rows(3, 5)));
        await put(task, [begin('r2')], rows(50, 60), [begin('r3')], rows(7, 9), [end(2, 'r3')]);
        expect(await shown()).toEqual(expectedRows(rows(7, 9)));
      });
      expect(await leftovers()).toEqual([[], []]);
    });

    test('runs of two tables at a time, and changes of a third', async () => {
      await withSink(batch, async (task) => {
        await put(task, [begin('a')], [begin('b', 'merge', 'u')]);
        await put(task, [row(1), row(1, 'u1', 'u'), row(1, 'v1', 'v'), row(2)], [end(2, 'a')]);
        await put(task, [row(2, 'u2', 'u'), row(3, 't3')]);
        expect(await shown('t')).toEqual([
          [1, 's1'],
          [2, 's2'],
          [3, 't3'],
        ]);
        expect(await shown('u')).toEqual([]);
        expect(await shown('v')).toEqual([[1, 'v1']]);
        await put(task, [end(2, 'b', 'u')]);
      });
      expect(await shown('u')).toEqual([
        [1, 'u1'],
        [2, 'u2'],
      ]);
    });

    test('a run of which records are missing is not published, and says so', async () => {
      await withSink(batch, async (task) => {
        await put(task, rows(0, 2), [begin()], rows(5, 8));
        await expect(put(task, [end(4)])).rejects.toMatchObject(
          refused(
            'STATE_CONFLICT',
            /run r1 ends after 4 records, and 3 came; nothing was published: reset the offset/,
            { blame: 'system' },
          ),
        );
        expect(await shown()).toEqual(expectedRows(rows(0, 2)));
        await expect(put(task, [end(3, 'other')])).rejects.toMatchObject(
          refused('STATE_CONFLICT', /other ends, whose begin did not come/),
        );
        await put(task, [end(undefined)]);
      });
      expect(await shown()).toEqual(expectedRows(rows(5, 8)));
    });

    test('rows are refused while they are staged, by name, and the rest is shown', async () => {
      await run('CREATE TABLE t (id integer PRIMARY KEY, s varchar(4) NOT NULL)');
      await withSink(batch, async (task) => {
        await put(task, [begin()]);
        const rejected = await put(task, [row(1), row(2, 'too long'), keyed(3, { s: null }, { s: 'string' }), row(4)]);
        expect(rejected.map(({ index }) => index)).toEqual([1, 2]);
        await put(task, [end(4)]);
      });
      expect(await shown()).toEqual([
        [1, 's1'],
        [4, 's4'],
      ]);
    });

    test('in a run of scope replace a tombstone takes its row out; one of scope merge is of whole rows', async () => {
      const { change, tombstone } = changesOf({ s: 'string', n: 'int32' });
      await withSink(batch, async (task) => {
        await put(
          task,
          [begin()],
          [row(1), row(2), { ...row(1), value: null }],
          [row(3), { ...row(3), value: null }],
          [end(5)],
        );
        expect(await shown()).toEqual([[2, 's2']]);
        await put(task, [begin('w', 'merge')]);
        const changes = [
          change('r', 2, { s: 'x', n: 1 }),
          change('u', 2, { s: 'y' }),
          tombstone(2),
          change('u', 5, { s: 'z', n: 2 }),
        ];
        expect((await put(task, changes)).map(({ index }) => index)).toEqual([1, 2]);
        await put(task, [end(4, 'w')]);
      });
      expect(await shown()).toEqual([
        [2, 'x'],
        [5, 'z'],
      ]);
    });

    test('a field that comes in the middle of a run gets its column, and one that is ignored none', async () => {
      const wider = (id: number) => keyed(id, { s: `s${id}`, n: 7 }, { s: 'string', n: 'int32' });
      await withSink(batch, (task) => put(task, [begin()], [row(1)], [wider(2)], [row(3)], [end(3)]));
      expect(await all('SELECT id, s, n FROM t ORDER BY id')).toEqual([
        [1, 's1', null],
        [2, 's2', 7],
        [3, 's3', null],
      ]);
      await run('CREATE TABLE u (id integer PRIMARY KEY, s varchar(9))');
      const ignored = (record: RecordInput) => ({ ...record, topic: 'u' });
      await withSink({ ...batch, evolve: 'ignore' }, (task) =>
        put(task, [begin('r', 'replace', 'u')], [ignored(wider(1))], [end(1, 'r', 'u')]),
      );
      expect(await all('SELECT * FROM u')).toEqual([[1, 's1']]);
    });

    test('what only shows when all rows are together fails the task, and names no record', async () => {
      await run(
        'CREATE TABLE p (id integer PRIMARY KEY); CREATE TABLE t (id integer PRIMARY KEY, s varchar(9), p integer, FOREIGN KEY (p) REFERENCES p (id))',
      );
      await withSink(batch, async (task) => {
        const child = keyed(1, { s: 'a', p: 5 }, { s: 'string', p: 'int32' });
        await put(task, [begin()], [child]);
        await expect(put(task, [end(1)])).rejects.toMatchObject({ blame: 'order', retriable: true });
        expect(await shown()).toEqual([]);
        await run('INSERT INTO p VALUES (5)');
        await put(task, [end(1)]);
      });
      expect(await shown()).toEqual([[1, 'a']]);
    });

    test('a table that was changed meanwhile, and refuses what is staged, fails the task: the record that ends a run is no bad one', async () => {
      await withSink(batch, async (task) => {
        await put(task, [begin()], [row(1), row(2, 'x')]);
        await run('DROP TABLE t; CREATE TABLE t (id integer PRIMARY KEY, s varchar(1))');
        await expect(put(task, [end(2)])).rejects.toMatchObject(
          refused('UNAVAILABLE', /run r1 cannot be published/, { blame: 'system' }),
        );
        expect(await shown()).toEqual([]);
      });
    });

    test('batches are cut at control records, which stand alone', async () => {
      await withSink(batch, async (task) => {
        const cut = (...records: RecordInput[]) => task.take!(batchOf(records));
        expect([cut(row(1), row(2)), cut(row(1), begin(), row(2)), cut(begin(), end(0)), cut()]).toEqual([2, 1, 1, 0]);
        await expect(put(task, [row(1), begin()])).rejects.toMatchObject(
          refused('CONFIG_INVALID', /shares its offset/),
        );
      });
      await withSink({}, async (task) => expect([task.take, task.takesControl]).toEqual([undefined, undefined]));
    });

    test('a commit record of a source that tells its transactions changes nothing', async () => {
      await withSink(batch, (task) =>
        put(task, [row(1)], [controlRecord('t', { event: 'commit', transaction: '7' })], [row(2)]),
      );
      expect(await shown()).toEqual([
        [1, 's1'],
        [2, 's2'],
      ]);
    });

    test('a zombie that would begin or end a run is FENCED, and takes nothing from the live one', async () => {
      const [live, zombie] = [await openSink(batch), await openSink(batch)];
      for (const stale of [[begin()], [end(3)], rows(8, 9)]) {
        await put(live, []);
        const offsets = [await nextCommit(zombie)];
        await put(live, [begin()], rows(5, 7));
        await expect(putRecords(zombie, stale, { offsets })).rejects.toMatchObject({ code: 'FENCED' });
        await put(live, [row(7)], [end(3)]);
        expect(await shown()).toEqual(expectedRows(rows(5, 8)));
      }
      await zombie.close();
      await live.close();
    });

    test('the shape of sluice_runs is pinned: changing it needs a reader for rows of this one (invariant 11)', async () => {
      expect(runsShape).toBe(1);
      await withSink(batch, (task) => put(task, [begin()], rows(0, 2)));
      const [stored] = await all('SELECT * FROM sluice_runs');
      const staging = expect.stringMatching(/^sluice_run_t_[0-9a-f]{16}$/);
      const written = '{"columns":["id","s"],"key":["id"]}';
      // deployment, connector, incarnation, staging, topic, run, scope, records, written, state, v
      expect(stored!.map(String)).toEqual(['d', 'c', 'i', staging, 't', 'r1', 'replace', '2', written, 'open', '1']);
    });

    test('a run of a newer release stops this one', async () => {
      await withSink(batch, (task) => put(task, [begin()], rows(0, 2)));
      await run('UPDATE sluice_runs SET v = 2');
      const task = await openSink(batch);
      await expect(put(task, [end(2)])).rejects.toMatchObject({ code: 'SHAPE_TOO_NEW' });
      await task.close();
      await run('UPDATE sluice_runs SET v = 1');
      await withSink(batch, (again) => put(again, [end(2)]));
      expect(await shown()).toEqual(expectedRows(rows(0, 2)));
    });

    test('an operator who moves the offset voids what is staged, once', async () => {
      await withSink(batch, async (task) => {
        await put(task, rows(0, 2), [begin()], rows(5, 8));
        const { partition } = await nextCommit(task);
        await task.reset!('past the end', [{ partition, offset: { n: 9 } }]);
        await put(task, [row(3)], [begin('r2', 'merge')], [row(4)]);
        expect(await shown()).toEqual([...expectedRows(rows(0, 2)), [3, 's3']]);
        await task.reset!('past the end', [{ partition, offset: { n: 9 } }]);
        await put(task, [end(1, 'r2')]);
      });
      expect(await shown()).toEqual([...expectedRows(rows(0, 2)), [3, 's3'], [4, 's4']]);
      expect(await leftovers()).toEqual([[], []]);
    });

    test('a control record whose answer was lost is done once', async () => {
      await withSink(batch, async (task) => {
        for (const records of [[begin()], rows(0, 3), [end(3)], [begin('r2')], rows(2, 5), [end(3, 'r2')]]) {
          const offsets = [await nextCommit(task)];
          for (let again = 0; again < 3; again++) await putRecords(task, records, { offsets });
        }
      });
      expect(await shown()).toEqual(expectedRows(rows(2, 5)));
      expect(await leftovers()).toEqual([[], []]);
    });

    test('a task that is cut off at any answer of the server, and opened again, shows each run once and whole', async () => {
      const wire = await createWire(port());
      const script = (topic: string) => [
        rows(0, 3, 'old', topic),
        [begin('r2', 'replace', topic)],
        [row(66, 'void', topic)],
        [begin('r2', 'replace', topic)],
        rows(1, 4, 'new', topic),
        rows(4, 6, 'new', topic),
        [end(5, 'r2', topic)],
        [row(6, 'new', topic)],
      ];
      let cuts = 0;
      for (let cut = 1, isOver = false; !isOver; cut++) {
        const topic = `c${cut}`;
        const steps = script(topic);
        wire.cutAfter(cut);
        for (let at = 0; at < steps.length; ) {
          let task: SinkTask | undefined;
          try {
            task = await openSink({ ...batch, ...through(wire.port) }, topic);
            // As the runner does: a new run goes on from the offset that is stored.
            for (at = (await nextCommit(task)).seq; at < steps.length; at++) {
              await putRecords(task, steps[at]!);
              const seen = await all(`SELECT s, count(*) FROM ${topic} GROUP BY s ORDER BY s`).catch(() => []);
              const isPart = seen.some(([s]) => s === 'old') && seen.some(([s]) => s === 'new');
              expect([isPart, seen.some(([s]) => s === 'void')]).toEqual([false, false]);
            }
          } catch (error) {
            if (!wire.wasCut()) throw error;
            wire.cutAfter(Number.POSITIVE_INFINITY);
            cuts++;
          } finally {
            await task?.close();
          }
        }
        isOver = !wire.wasCut() && cuts < cut;
        expect(await shown(topic), `cut at ${cut}`).toEqual(expectedRows(rows(1, 7, 'new', topic)));
      }
      expect(cuts).toBeGreaterThan(20);
      expect(await leftovers()).toEqual([[], []]);
      await wire.close();
    }, 120_000);
  });
};
