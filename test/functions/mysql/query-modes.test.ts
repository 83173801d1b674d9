import { describe, expect, test } from 'vitest';
import { describeQueryModes } from '../../kit/describe-query-modes.ts';
import { readerOf } from '../../kit/query-server.ts';
import { useQueryServer } from './query-server.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  const server = useQueryServer(flavour);
  describeQueryModes(flavour, server);

  test('a delay of less than a second is one for a datetime of whole seconds', async () => {
    const schema = await server.schema();
    await server.run(`CREATE TABLE t (id int PRIMARY KEY, at datetime);
      INSERT INTO t VALUES (1, UTC_TIMESTAMP() - INTERVAL 1 HOUR), (2, UTC_TIMESTAMP() + INTERVAL 1 HOUR)`);
    const config = {
      tables: [`${schema}.t`],
      mode: 'timestamp',
      timestampColumns: ['at'],
      timestampDelayIntervalMs: 1,
    };
    const { withTask, readAll } = readerOf(server, config);
    await withTask(async (task) => {
      // The second before this one, as long as it is that.
      for (let tries = 0; tries < 20; tries++) {
        await server.run('UPDATE t SET at = UTC_TIMESTAMP() - INTERVAL 1 SECOND WHERE id = 2');
        const { records } = await readAll(task);
        const [{ same } = { same: 0 }] = await server.rows<{ same: number }>(
          'SELECT at = UTC_TIMESTAMP() - INTERVAL 1 SECOND AS same FROM t WHERE id = 2',
        );
        if (same === 1) expect(records.map(({ key }) => key)).toEqual([{ id: 1 }]);
      }
    });
  });
});
