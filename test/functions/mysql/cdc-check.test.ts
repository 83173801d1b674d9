import { describe, expect, test } from 'vitest';
import { mysqlCdcSource } from '../../../functions/mysql/cdc-source.ts';
import { useMysql } from './cdc-fixture.ts';

describe.each(['mariadb', 'mysql'] as const)('the check of a source of %s', (flavour) => {
  const { run, database, contextOf } = useMysql(flavour);
  const check = (config: object) => mysqlCdcSource.check!(contextOf(config));

  test('finds nothing where nothing is wrong', async () => {
    const name = await database();
    await run('CREATE TABLE t (id int PRIMARY KEY)');
    expect(await check({ tables: [`${name}.t`] })).toEqual([]);
  });

  test('tells every problem at once, each with what mends it', async () => {
    const name = await database();
    await run(`CREATE TABLE k (id int); SET GLOBAL binlog_row_image = MINIMAL, binlog_row_metadata = MINIMAL;
      CREATE USER reader@'%' IDENTIFIED BY 'x'; GRANT SELECT ON ${name}.* TO reader@'%'`);
    try {
      const problems = await check({ user: 'reader', password: 'x', tables: [`${name}.k`, `${name}.missing`] });
      expect(problems).toEqual([
        expect.stringMatching(/^binlog_row_image is MINIMAL, and FULL is needed: SET GLOBAL/),
        expect.stringMatching(/^binlog_row_metadata is (MINIMAL|NO_LOG), and FULL is needed: SET GLOBAL/),
        expect.stringMatching(
          /^the account lacks REPLICATION CLIENT: GRANT REPLICATION CLIENT ON \*\.\* TO `reader`@`%`$/,
        ),
        expect.stringMatching(/^the account lacks REPLICATION SLAVE: GRANT/),
        expect.stringMatching(/k has no primary key/),
        expect.stringMatching(/^there is no table .*missing/),
      ]);
    } finally {
      await run("SET GLOBAL binlog_row_image = FULL, binlog_row_metadata = FULL; DROP USER reader@'%'");
    }
  });

  test('a server that is not there, or does not let in, is the one problem', async () => {
    expect(await check({ password: 'wrong', tables: ['a.b'] })).toEqual([
      expect.stringMatching(/cannot connect to MySQL/),
    ]);
  });
});
