import { describe, expect, test } from 'vitest';
import type { Struct } from '../../../shared/connect/schema.ts';
import { createRunner, type OffsetMap, type SourceFixture } from '../../kit/source-runner.ts';
import { useMysql } from './cdc-fixture.ts';

const levels = { mariadb: ['MINIMAL', 'NO_LOG'], mysql: ['MINIMAL'] } as const;

/** Each keeps the number of columns, and all but one their types. */
const alterations = [
  'RENAME COLUMN a TO b, RENAME COLUMN b TO a',
  'MODIFY a varchar(20) AFTER b',
  'DROP COLUMN a, ADD COLUMN c varchar(20) AFTER b',
  'MODIFY n varchar(20)',
];

describe.each(['mariadb', 'mysql'] as const)('rows of a binlog of %s that has not the names of columns', (flavour) => {
  const { run, database, fixture } = useMysql(flavour);

  test.each(levels[flavour].flatMap((level) => alterations.map((alter) => [level, alter] as const)))(
    'are refused, and never read by the columns of a later table: %s, %s',
    async (level, alter) => {
      const name = await database();
      await run(`CREATE TABLE t (id int PRIMARY KEY, a varchar(20), b varchar(20), n int);
        CREATE TABLE other (id int PRIMARY KEY); INSERT INTO t VALUES (1, 'a1', 'b1', 1)`);
      const of = { ...fixture({ tables: [`${name}.t`] }), expected: [] } as SourceFixture;
      const { withTask, readAll } = createRunner(of);
      const read = (offsets?: OffsetMap) => withTask((task) => readAll(task, offsets));
      const { offsets } = await read();
      await run(`INSERT INTO t VALUES (2, 'a2', 'b2', 2)`);
      await run(`SET GLOBAL binlog_row_metadata = ${level}`);
      try {
        // Of a table that is not read nobody asks.
        await run(`INSERT INTO other VALUES (1); INSERT INTO t VALUES (3, 'a3', 'b3', 3); ALTER TABLE t ${alter}`);
      } finally {
        await run('SET GLOBAL binlog_row_metadata = FULL');
      }
      // Whatever the server is set to by now.
      for (let again = 0; again < 2; again++)
        await expect(read(offsets)).rejects.toMatchObject({
          code: 'CONFIG_INVALID',
          blame: 'system',
          message: expect.stringMatching(
            new RegExp(`^rows of ${name}\\.t at .+:\\d+ .*SET GLOBAL binlog_row_metadata = FULL.*reset`),
          ),
        });
      const anew = await read();
      const rows = anew.records.map(({ value }) => (value as { after: Struct }).after);
      const [found] = await run('SELECT * FROM t ORDER BY id');
      expect(rows).toEqual((found as unknown as Struct[]).map((row) => ({ ...row })));
    },
  );
});

describe.each(['mariadb', 'mysql'] as const)('keys of rows of %s', (flavour) => {
  const { run, database, fixture } = useMysql(flavour);

  test('are those that the table had when they were written', async () => {
    const name = await database();
    await run('CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL)');
    const of = { ...fixture({ tables: [`${name}.t`], snapshotMode: 'no_data' }), expected: [] } as SourceFixture;
    const { withTask, readAll } = createRunner(of);
    const { offsets } = await withTask((task) => readAll(task));
    await run(`INSERT INTO t VALUES (1, 10); ALTER TABLE t DROP PRIMARY KEY; INSERT INTO t VALUES (2, 20);
      ALTER TABLE t ADD PRIMARY KEY (a); INSERT INTO t VALUES (3, 30);
      ALTER TABLE t DROP PRIMARY KEY, ADD COLUMN n int NOT NULL AUTO_INCREMENT PRIMARY KEY; INSERT INTO t VALUES (4, 40, 400)`);
    const { records } = await withTask((task) => readAll(task, offsets));
    expect(records.map(({ key }) => key)).toEqual([{ id: 1 }, null, { a: 30 }, { n: 400 }]);
  });
});
