import { expect, test } from 'vitest';
import { postgresSink } from '../../../functions/postgres/sink.ts';
import { decodeBody, encodeBody } from '../../../shared/log/segment.ts';
import { describeUntold } from '../../kit/describe-untold.ts';
import { nextCommit } from '../../kit/put-records.ts';
import { identity, useCdc } from './cdc-fixture.ts';
import { useSink } from './sink-fixture.ts';

describeUntold('PostgreSQL', useSink());

const { run, all, capture, schema, server } = useCdc();

test('a long value that did not change stays, from the server over a segment of the log to the table', async () => {
  await run('CREATE TABLE t (id int PRIMARY KEY, body text, n int)');
  const { withTask, pollOnce } = await capture(['t']);
  await run(`INSERT INTO t SELECT n, (SELECT string_agg(md5(n || 'x' || m), '') FROM generate_series(1, 400) m), 0 FROM generate_series(1, 6) n;
    UPDATE t SET n = 1 WHERE id <> 4; UPDATE t SET body = 'short' WHERE id IN (2, 3); UPDATE t SET n = 2 WHERE id IN (1, 3); DELETE FROM t WHERE id = 5`);
  const { signal } = new AbortController();
  const sink = await postgresSink.open({
    ...identity,
    taskId: 0,
    tasks: 1,
    signal,
    config: postgresSink.config.parse({ url: server().url, schema: schema(), table: `${schema()}.copy` }),
  });
  await withTask(async (task) => {
    const { groups } = (await pollOnce(task, new Map())).batch;
    const batch = await decodeBody(await encodeBody(groups), `shop.${schema()}.t`, 'test');
    const reject = async (rejected: readonly unknown[]) => expect(rejected).toEqual([]);
    const commit = async () => {};
    await sink.put(batch, { offsets: [await nextCommit(sink)], epoch: 1, signal, reject, commit });
  });
  await sink.close();
  expect(await all('SELECT * FROM copy ORDER BY id')).toEqual(await all('SELECT * FROM t ORDER BY id'));
  expect(await all('SELECT id, n, length(body) FROM copy ORDER BY id')).toEqual([
    [1, 2, 12_800],
    [2, 1, 5],
    [3, 2, 5],
    [4, 0, 12_800],
    [6, 1, 12_800],
  ]);
});
