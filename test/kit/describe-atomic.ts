import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { batchOf, type RecordInput } from '../../shared/connect/build.ts';
import { partitionKey, type SinkTask } from '../../shared/connect/connector.ts';
import { controlRecord } from '../../shared/connect/control.ts';
import type { Struct } from '../../shared/connect/schema.ts';
import { stagedShape } from '../../shared/sql/staged-batches.ts';
import { changesOf } from './changes.ts';
import { keyed, nextCommit, putRecords, refused } from './put-records.ts';
import { seeded } from './seed.ts';
import type { SqlSink } from './sql-sink.ts';
import { createWire } from './wire.ts';

const atomic = { transactions: 'atomic' };
const commit = (transaction: number | string = 1, topic = 't') =>
  controlRecord(topic, { event: 'commit', transaction: String(transaction) });
const row = (id: number, s = `s${id}`, topic = 't') => keyed(id, { s }, { s: 'string' }, topic);

/** Runs a script as the runner does: from the offset that is stored, in batches that `take` cuts. */
const runScript = async (task: SinkTask, script: readonly RecordInput[], batchSize: number, seen = async () => {}) => {
  const [stored] = await task.offsets!();
  let at = (stored?.offset as { at?: number } | undefined)?.at ?? 0;
  while (at < script.length) {
    const batch = script.slice(at, at + batchSize);
    const taken = task.take!(batchOf(batch));
    const offsets = [{ ...(await nextCommit(task)), offset: { at: at + taken } }];
    expect((await putRecords(task, batch.slice(0, taken), { offsets })).rejected).toEqual([]);
    at += taken;
    await seen();
  }
};

/** How a sink for tables writes the transactions of a source: each in one of its own, or not at all. */
export const describeAtomic = (
  name: string,
  { openSink, withSink, run, all, port, through }: Omit<SqlSink, 'tables'>,
): void => {
  const shown = (topic = 't') => all(`SELECT id, s FROM ${topic} ORDER BY id`);
  const put = async (task: SinkTask, ...batches: readonly (readonly RecordInput[])[]) => {
    for (const one of batches) expect((await putRecords(task, one)).rejected).toEqual([]);
  };
  const staged = () => all('SELECT number, part FROM sluice_staged ORDER BY number, part');

  /** Money that moves between accounts of two tables, some of it in transactions that are larger than a batch. */
  const bankScript = (prefix: string, transactions: number, largest: number) => {
    const { integer, pick } = seeded(`${name}: bank`);
    const tables = [`${prefix}a`, `${prefix}b`];
    const makers = new Map(tables.map((table) => [table, changesOf({ n: 'int32', note: 'string' }, table)]));
    const accounts = tables.flatMap((table) => Array.from({ length: 6 }, (_, id) => ({ table, id, n: 100 })));
    const script: RecordInput[] = [];
    const change = (op: 'c' | 'u' | 'd', { table, id, n }: (typeof accounts)[number], isWhole = true) => {
      const after: Struct = isWhole ? { n, note: `note ${id}` } : { n };
      script.push(makers.get(table)!.change(op, id, op === 'd' ? null : after));
    };
    for (const account of accounts) change('c', account);
    script.push(commit(0, tables[0]));
    for (let t = 1; t <= transactions; t++) {
      for (let moves = integer(1, largest); moves > 0; moves--) {
        const [from, to] = [pick(accounts)!, pick(accounts)!];
        if (from === to) continue;
        const amount = integer(0, from.n);
        from.n -= amount;
        to.n += amount;
        // Now and then an account is closed and opened again on the way.
        const isClosed = integer(0, 5) === 0;
        if (isClosed) change('d', from);
        change(isClosed ? 'c' : 'u', from);
        change('u', to, integer(0, 1) === 0);
      }
      script.push(commit(t, tables[0]));
    }
    const last = (table: string) =>
      accounts.filter((one) => one.table === table).map(({ id, n }) => [id, n, `note ${id}`]);
    const total = async () =>
      Number(
        (
          await all(
            `SELECT (SELECT coalesce(sum(n), 0) FROM ${tables[0]}) + (SELECT coalesce(sum(n), 0) FROM ${tables[1]})`,
          )
        )[0]![0],
      );
    return { script, tables, last, total };
  };

  describe(`${name}: transactions atomic`, () => {
    test('a bank: every reader sees the same total, and at the end each account has its own', async () => {
      const { script, tables, last, total } = bankScript('bank_', 60, 15);
      await withSink(atomic, async (task) => {
        await runScript(task, script.slice(0, 13), 13);
        const seen = new Set<number>();
        let isRunning = true;
        const reading = (async () => {
          while (isRunning) seen.add(await total());
        })();
        await runScript(task, script, 9);
        isRunning = false;
        await reading;
        expect([...seen]).toEqual([1_200]);
      });
      for (const table of tables) expect(await all(`SELECT * FROM ${table} ORDER BY id`)).toEqual(last(table));
      expect(await staged()).toEqual([]);
    });

    test('a bank whose task is cut off at any answer of the server, and opened again', async () => {
      const wire = await createWire(port());
      let cuts = 0;
      for (let cut = 1, isOver = false; !isOver; cut++) {
        const { script, tables, last, total } = bankScript(`c${cut}_`, 3, 4);
        wire.cutAfter(cut);
        for (let isDone = false; !isDone; ) {
          let task: SinkTask | undefined;
          try {
            task = await openSink({ ...atomic, ...through(wire.port) }, `c${cut}`);
            await runScript(task, script, 5, async () => {
              expect([0, 1_200]).toContain(await total().catch(() => 0));
            });
            isDone = true;
          } catch (error) {
            if (!wire.wasCut()) throw error;
            wire.cutAfter(Number.POSITIVE_INFINITY);
            cuts++;
          } finally {
            await task?.close();
          }
        }
        isOver = cuts < cut;
        for (const table of tables)
          expect(await all(`SELECT * FROM ${table} ORDER BY id`), `cut at ${cut}`).toEqual(last(table));
      }
      expect(cuts).toBeGreaterThan(20);
      expect(await staged()).toEqual([]);
      await wire.close();
    }, 120_000);

    test('nothing of a transaction is there before its end, also over several batches and a task that ends between', async () => {
      await withSink(atomic, (task) => put(task, [row(1), commit()], [row(2), row(1, 'x')]));
      await withSink(atomic, async (task) => {
        await put(task, [row(3)], [{ ...row(2), value: null }]);
        expect(await shown()).toEqual([[1, 's1']]);
        expect(await staged()).toHaveLength(3);
        await put(task, [row(4), commit(), row(5)]);
        expect(await shown()).toEqual([
          [1, 'x'],
          [3, 's3'],
          [4, 's4'],
        ]);
        await put(task, [commit()]);
      });
      expect(await shown()).toEqual([
        [1, 'x'],
        [3, 's3'],
        [4, 's4'],
        [5, 's5'],
      ]);
      expect(await staged()).toEqual([]);
    });

    test('a batch is cut behind the last transaction that ends in it, or taken whole', async () => {
      await withSink(atomic, async (task) => {
        const cut = (...records: RecordInput[]) => task.take!(batchOf(records));
        const end = controlRecord('t', { event: 'end', run: 'r', records: 1 });
        const begin = controlRecord('t', { event: 'begin', run: 'r', scope: 'merge' });
        expect(cut(row(1), commit(), row(2), commit(), commit(), row(3))).toBe(5);
        expect([cut(row(1), row(2)), cut(begin, row(1), end, row(2)), cut(begin, row(1))]).toEqual([2, 3, 2]);
        // Where its offsets do not let it be cut there, what is behind is staged.
        await put(task, [begin, row(1), end, row(2)]);
        expect(await shown()).toEqual([[1, 's1']]);
        await put(task, [commit()]);
        expect(await shown()).toEqual([
          [1, 's1'],
          [2, 's2'],
        ]);
      });
    });

    test('a row that is refused fails its transaction, and is named; nothing of it is written, whatever the tolerance', async () => {
      await run('CREATE TABLE t (id integer PRIMARY KEY, s varchar(4) NOT NULL)');
      await withSink(atomic, async (task) => {
        await put(task, [row(1), commit()]);
        const problem = (key: number) =>
          refused('RECORD_REJECTED', new RegExp(`record of topic t with the key {"id":${key}} cannot be written: `), {
            blame: 'system',
          });
        await expect(put(task, [row(2), row(3, 'too long'), row(4), commit()])).rejects.toMatchObject(problem(3));
        await put(task, [row(5), row(6, 'too long'), row(7)]);
        await expect(put(task, [row(8), commit()])).rejects.toMatchObject(problem(6));
        expect(await shown()).toEqual([[1, 's1']]);
        // What is known without asking the server is said before it is staged.
        await expect(put(task, [{ ...row(9), key: null }])).rejects.toMatchObject(
          refused('RECORD_REJECTED', /topic t with the key/),
        );
        expect(await staged()).toHaveLength(1);
      });
    });

    test('unique values and foreign keys are kept in the order of the source, across tables and batches', async () => {
      await run(`CREATE TABLE p (id integer PRIMARY KEY, s varchar(9) UNIQUE);
        CREATE TABLE t (id integer PRIMARY KEY, s varchar(9), p integer, FOREIGN KEY (p) REFERENCES p (id))`);
      const child = (id: number, p: number) => keyed(id, { s: 'c', p }, { s: 'string', p: 'int32' });
      await withSink(atomic, async (task) => {
        await put(task, [row(1, 'a', 'p'), row(2, 'b', 'p'), child(1, 1), commit()]);
        await put(task, [row(1, 'free', 'p'), row(2, 'a', 'p'), row(1, 'b', 'p')]);
        await put(task, [child(1, 2), row(3, 'c', 'p'), child(2, 3), { ...row(1, 'b', 'p'), value: null }, commit()]);
        await expect(put(task, [child(5, 99), commit()])).rejects.toMatchObject({ blame: 'order', retriable: true });
      });
      expect(await shown('p')).toEqual([
        [2, 'a'],
        [3, 'c'],
      ]);
      expect(await all('SELECT id, p FROM t ORDER BY id')).toEqual([
        [1, 2],
        [2, 3],
      ]);
    });

    test('a staged batch larger than a packet comes back as it was, with fields that no update tells', async () => {
      const { change } = changesOf({ s: 'string', n: 'int32' });
      const noise = (n: number) =>
        Buffer.from(Array.from({ length: 3_000 }, (_, i) => (i * 7919 * (n + 3)) % 251)).toString('base64');
      const ids = Array.from({ length: 400 }, (_, id) => id);
      await withSink(atomic, async (task) => {
        await put(
          task,
          ids.map((id) => change('c', id, { s: `${id}${noise(id)}`, n: 1 })),
          ids.map((id) => change('u', id, { n: id })),
        );
        expect((await staged()).length).toBeGreaterThanOrEqual(2);
        await put(task, [commit()]);
      });
      const found = await all('SELECT id, s, n FROM t ORDER BY id');
      expect(found).toEqual(ids.map((id) => [id, `${id}${noise(id)}`, id]));
    });

    test('a batch whose answer was lost is written or staged once, and a zombie FENCED', async () => {
      const [task, zombie] = [await openSink(atomic), await openSink(atomic)];
      const flat = (id: number) => ({ topic: 't', value: { id }, valueSchema: row(1).keySchema });
      for (const batch of [[flat(1)], [flat(2), commit(), flat(3)], [flat(4), commit()], [flat(5)]]) {
        const offsets = [await nextCommit(task)];
        for (let again = 0; again < 2; again++) await putRecords(task, batch, { offsets });
        const stale = [{ ...offsets[0]!, writeId: 'zombie' }];
        await expect(putRecords(zombie, batch, { offsets: stale })).rejects.toMatchObject({ code: 'FENCED' });
      }
      expect(await all('SELECT id FROM t ORDER BY id')).toEqual([[1], [2], [3], [4]]);
      expect(await staged()).toHaveLength(1);
      await zombie.close();
      await task.close();
    });

    test('two tasks that each read a partition of a source do not end the transactions of each other', async () => {
      const offsetOf = (source: string, seq: number) => [
        { key: partitionKey({ source }), partition: { source }, offset: seq, seq, writeId: `${source}${seq}` },
      ];
      await withSink(atomic, (task) => put(task, [row(0), commit()]));
      const tasks = [await openSink(atomic), await openSink(atomic)] as const;
      await putRecords(tasks[0], [row(1)], { offsets: offsetOf('x', 0) });
      await putRecords(tasks[1], [row(2), commit()], { offsets: offsetOf('y', 0) });
      expect(await shown()).toEqual([
        [0, 's0'],
        [2, 's2'],
      ]);
      await putRecords(tasks[0], [commit()], { offsets: offsetOf('x', 1) });
      expect(await shown()).toHaveLength(3);
      for (const task of tasks) await task.close();
    });

    test('the shape of sluice_staged is pinned: changing it needs a reader for rows of this one (invariant 11)', async () => {
      expect(stagedShape).toBe(1);
      await withSink(atomic, (task) => put(task, [row(1)]));
      const columns = 'deployment, connector, incarnation, lane, number, part, v';
      const [stored] = await all(`SELECT ${columns}, meta FROM sluice_staged`);
      const lane = createHash('sha256').update('{"source":"test"}').digest('hex');
      expect(stored!.slice(0, 7).map(String)).toEqual(['d', 'c', 'i', lane, '1', '0', '1']);
      // Of the body, and how it is encoded, the pin is that of a segment.
      const { topics, parts, ...body } = JSON.parse(String(stored![7]));
      expect({ topics, parts }).toEqual({ topics: ['t'], parts: 1 });
      expect(Object.keys(body).sort()).toEqual(['crc32', 'rawLength']);
    });

    test('a batch that a newer release staged stops this one', async () => {
      await withSink(atomic, (task) => put(task, [row(1)]));
      await run('UPDATE sluice_staged SET v = 2');
      const task = await openSink(atomic);
      await expect(put(task, [commit()])).rejects.toMatchObject({ code: 'SHAPE_TOO_NEW' });
      await task.close();
      await run('UPDATE sluice_staged SET v = 1');
      await withSink(atomic, (again) => put(again, [commit()]));
      expect(await shown()).toEqual([[1, 's1']]);
    });

    test('an operator who moves the offset voids what is staged, once', async () => {
      await withSink(atomic, async (task) => {
        await put(task, [row(1), commit()], [row(2)]);
        const { partition } = await nextCommit(task);
        await task.reset!('r', [{ partition, offset: { n: 9 } }]);
        await put(task, [row(3)]);
        await task.reset!('r', [{ partition, offset: { n: 9 } }]);
        await put(task, [commit()]);
      });
      expect(await shown()).toEqual([
        [1, 's1'],
        [3, 's3'],
      ]);
    });

    test('records of two partitions have no order, and are refused', async () => {
      await withSink(atomic, async (task) => {
        const offsets = ['a', 'b'].map((source) => ({
          ...{ key: partitionKey({ source }), partition: { source }, offset: 1, seq: 0, writeId: 'w' },
        }));
        await expect(putRecords(task, [row(1), commit()], { offsets })).rejects.toMatchObject(
          refused('CONFIG_INVALID', /needs one order of all records, and a batch came from/),
        );
      });
    });
  });
};
