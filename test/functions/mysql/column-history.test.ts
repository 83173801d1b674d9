import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { mysqlCdcSource } from '../../../functions/mysql/cdc-source.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import { createRunner, type OffsetMap, type SourceFixture } from '../../kit/source-runner.ts';
import { useMysql } from './cdc-fixture.ts';

/** Each keeps the number of columns, and all but one their types: nothing in a row tells that it is older. */
const alterations = [
  'CHANGE a b varchar(20), CHANGE b a varchar(20)',
  'MODIFY a varchar(20) AFTER b',
  'DROP COLUMN a, ADD COLUMN c varchar(20) AFTER b',
  'MODIFY n varchar(20)',
];

describe.each(['mariadb-10.2', 'mysql-5.7'] as const)(
  'columns of a binlog of %s, which has no names of them',
  (flavour) => {
    const { run, database, fixture, contextOf, server, connect } = useMysql(flavour);
    const reading = (config: object) => {
      const { withTask, readAll } = createRunner({ ...fixture(config), expected: [] } as SourceFixture);
      return async (offsets?: OffsetMap) => {
        const { records, offsets: next } = await withTask((task) => readAll(task, offsets));
        const rows = records.flatMap(({ value }) =>
          value === null ? [] : [(value as { after: Struct | null }).after],
        );
        return { rows, keys: records.map(({ key }) => key), offsets: next };
      };
    };
    const create = 'CREATE TABLE t (id int PRIMARY KEY, a varchar(20), b varchar(20), n int)';

    test.each(alterations)('rows that are unread when a table is altered are read as they were: %s', async (alter) => {
      const name = await database();
      await run(`${create}; INSERT INTO t VALUES (1, 'a1', 'b1', 1)`);
      const read = reading({ tables: [`${name}.t`] });
      const first = await read();
      await run(`INSERT INTO t VALUES (2, 'a2', 'b2', 2); ALTER TABLE t ${alter}; UPDATE t SET n = 20 WHERE id = 2;`);
      const { rows, keys } = await read(first.offsets);
      expect(keys).toEqual([{ id: 2 }, { id: 2 }]);
      const [found] = await run('SELECT * FROM t WHERE id = 2');
      expect(rows).toEqual([
        { id: 2, a: 'a2', b: 'b2', n: 2 },
        ...(found as unknown as Struct[]).map((row) => ({ ...row })),
      ]);
    });

    test('the check asks for no setting that the server has not', async () => {
      const name = await database();
      await run(create);
      expect(await mysqlCdcSource.check!(contextOf({ tables: [`${name}.t`] }))).toEqual([]);
    });

    test('a table that no change was read of is known since the first run', async () => {
      const name = await database();
      await run(create);
      const read = reading({ topic: 'all', tables: [`${name}.*`] });
      const first = await read();
      await run(`INSERT INTO t VALUES (1, 'a1', 'b1', 1); ALTER TABLE t ${alterations[0]}`);
      expect((await read(first.offsets)).rows).toEqual([{ id: 1, a: 'a1', b: 'b1', n: 1 }]);
    });

    test('a table that is altered while its rows are read is known from before that', async () => {
      const name = await database();
      await run(create);
      const { withTask, readAll, pollOnce, advance } = createRunner({
        ...fixture({ tables: [`${name}.t`] }),
        expected: [],
      } as SourceFixture);
      const offsets: OffsetMap = new Map();
      await withTask(async (task) => advance(offsets, (await pollOnce(task, offsets)).offsets));
      await run(`INSERT INTO t VALUES (1, 'a1', 'b1', 1); ALTER TABLE t ${alterations[0]}`);
      const { records } = await withTask((task) => readAll(task, offsets));
      expect(records.map(({ value }) => (value as { after: Struct }).after)).toEqual([
        { id: 1, b: 'a1', a: 'b1', n: 1 },
      ]);
    });

    test.each([
      ['dropped', 'DROP TABLE things'],
      ['renamed', 'RENAME TABLE things TO gone'],
      ['dropped with its database', 'DROP DATABASE `$`; CREATE DATABASE `$`; USE `$`'],
    ])('a table that is %s and made again has other columns', async (_, statement) => {
      const name = await database();
      await run(create.replace(' t ', ' things '));
      const read = reading({ tables: [`${name}.things`] });
      const first = await read();
      await run(`INSERT INTO things VALUES (1, 'a1', 'b1', 1); ${statement.replaceAll('$', name)};
      CREATE TABLE things (id int PRIMARY KEY, b varchar(20), a varchar(20), m int); INSERT INTO things VALUES (2, 'b2', 'a2', 2)`);
      expect((await read(first.offsets)).rows).toEqual([
        { id: 1, a: 'a1', b: 'b1', n: 1 },
        { id: 2, b: 'b2', a: 'a2', m: 2 },
      ]);
    });

    test('rows between two unread alterations are refused, whatever else the transaction has, and never read by other columns', async () => {
      const name = await database();
      await run(`${create}; CREATE TABLE u (id int PRIMARY KEY)`);
      const read = reading({ topic: 'all', tables: [`${name}.*`] });
      const first = await read();
      await run(`ALTER TABLE t ${alterations[0]}; BEGIN; INSERT INTO u VALUES (1); INSERT INTO t VALUES (1, 'b1', 'a1', 1); COMMIT;
      ALTER TABLE t ${alterations[0]}; INSERT INTO t VALUES (2, 'a2', 'b2', 2)`);
      for (let again = 0; again < 2; again++)
        await expect(read(first.offsets)).rejects.toMatchObject({
          code: 'LOST_POSITION',
          message: expect.stringMatching(
            new RegExp(`^rows of ${name}\\.t behind .+:\\d+ have no names .*altered or dropped since`),
          ),
        });
      expect((await read()).rows).toHaveLength(3);
    });

    test('a statement that is not in the binlog is found where it changes the number of columns', async () => {
      const name = await database();
      await run(create);
      const read = reading({ tables: [`${name}.t`] });
      const first = await read();
      await run(`SET sql_log_bin = 0; ALTER TABLE t DROP n; SET sql_log_bin = 1; INSERT INTO t VALUES (1, 'a1', 'b1')`);
      await expect(read(first.offsets)).rejects.toMatchObject({
        code: 'LOST_POSITION',
        message: expect.stringMatching(/has 4 columns, .* have 3/),
      });
    });

    test('whatever is altered between runs: a row is told as it was written, or refused', async () => {
      const statements = {
        swap: 'ALTER TABLE t CHANGE a b varchar(20), CHANGE b a varchar(20)',
        anew: 'DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, b varchar(20), a varchar(20))',
        file: 'FLUSH BINARY LOGS',
      };
      const steps = fc.array(fc.constantFrom('insert' as const, 'swap' as const, 'anew' as const, 'file' as const));
      await fc.assert(
        fc.asyncProperty(fc.array(steps, { minLength: 1, maxLength: 4 }), async (runs) => {
          const name = await database();
          await run('CREATE TABLE t (id int PRIMARY KEY, a varchar(20), b varchar(20))');
          const read = reading({ tables: [`${name}.t`] });
          let { offsets } = await read();
          let id = 1;
          for (const unread of runs) {
            /** The rows before the first alteration, between it and the next, and so on. */
            const rows: Struct[][] = [[]];
            for (const step of unread) {
              if (step === 'insert') {
                rows.at(-1)!.push({ id, a: `a${id}`, b: `b${id}` });
                await run(`INSERT INTO t (id, a, b) VALUES (${id}, 'a${id}', 'b${id++}')`);
              } else await run(statements[step]);
              if (step === 'swap' || step === 'anew') rows.push([]);
            }
            const isLost = rows.slice(1, -1).some((between) => between.length > 0);
            if (isLost) await expect(read(offsets)).rejects.toMatchObject({ code: 'LOST_POSITION' });
            else expect((await read(offsets)).rows).toEqual(rows.flat());
            offsets = (await read(isLost ? undefined : offsets)).offsets;
          }
        }),
        { numRuns: 25 },
      );
    });

    test('a server that was started anew numbers its tables again, and none is taken for another', async () => {
      const names = [await database(), await database()] as const;
      await run(
        `CREATE TABLE ${names[0]}.t (id int PRIMARY KEY, c int); CREATE TABLE ${names[1]}.t (id int PRIMARY KEY, d int)`,
      );
      const read = reading({ topic: 'all', tables: names.map((name) => `${name}.t`) });
      const { offsets } = await read();
      const afterStart = async (...statements: readonly string[]) => {
        await server().restart();
        const connection = await connect();
        for (const statement of statements) await connection.query(statement);
        await connection.end();
      };
      await afterStart(`INSERT INTO ${names[0]}.t VALUES (1, 1)`, `UPDATE ${names[0]}.t SET c = 2`);
      // One of these has the number that the table gets when it is altered.
      const many = Array.from({ length: 20 }, (_, id) => id);
      await afterStart(...many.flatMap((id) => [`INSERT INTO ${names[1]}.t VALUES (${id}, 1)`, 'FLUSH TABLES']));
      await afterStart(`ALTER TABLE ${names[1]}.t CHANGE d e int`, `INSERT INTO ${names[1]}.t VALUES (20, 1)`);
      expect((await read(offsets)).rows).toEqual([
        { id: 1, c: 1 },
        { id: 1, c: 2 },
        ...many.map((id) => ({ id, d: 1 })),
        { id: 20, e: 1 },
      ]);
    });
  },
);
