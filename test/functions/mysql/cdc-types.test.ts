import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Struct, StructSchema } from '../../../shared/connect/schema.ts';
import { createRunner, type OffsetMap, type SourceFixture } from '../../kit/source-runner.ts';
import { useMysql } from './cdc-fixture.ts';
import { plain, values } from './type-values.ts';

describe.each(['mariadb', 'mysql', 'mariadb-10.2', 'mysql-5.7'] as const)('types of %s', (flavour) => {
  const { run, database, fixture } = useMysql(flavour);

  test('a value is the same, whether it is read from the table or from the binlog, and so is its schema', async () => {
    const name = await database();
    const kept = values.filter(([, , , only = flavour]) => only === flavour);
    const columns = kept.map(([type], i) => `c${i} ${type}${type.endsWith('NULL') ? '' : ' NULL'}`);
    await run(`CREATE TABLE t (id int PRIMARY KEY, ${columns.join(', ')}) CHARSET utf8mb4 ROW_FORMAT=DYNAMIC`);
    await run(`INSERT INTO t VALUES (1, ${kept.map(([, literal]) => literal).join(', ')})`);
    await run('INSERT INTO t (id) VALUES (2)');
    const read = (snapshotMode: string) => firstBatch(fixture({ tables: [`${name}.t`], snapshotMode }));
    const nulls = Object.fromEntries(kept.map((_, i) => [`c${i}`, null]));
    const expected = Object.fromEntries(kept.map(([, , value], i) => [`c${i}`, value]));
    const rows = await read('initial');
    const changes = await read('never');
    for (const records of [rows, changes])
      expect(records.map(({ value }) => plain((value as Struct).after as Struct))).toEqual([
        plain({ id: 1, ...expected } as Struct),
        { id: 2, ...nulls },
      ]);
    const [row, change] = [rows, changes].map(([record]) => record!.valueSchema as StructSchema);
    expect(change).toEqual(row);
  });

  test('many rows at once are the same, too, before and after a change', async () => {
    const name = await database();
    const kept = Object.entries(generated);
    const columns = kept.map(([type], i) => `c${i} ${type} NULL`);
    await run(`CREATE TABLE t (id int PRIMARY KEY, ${columns.join(', ')}) CHARSET utf8mb4`);
    const rows = fc.sample(fc.tuple(...kept.map(([, literals]) => fc.option(literals, { nil: 'NULL' }))), {
      seed: 20261122,
      numRuns: 150,
    });
    await run(`INSERT INTO t VALUES ${rows.map((row, i) => `(${i}, ${row.join()})`).join()}`);
    const read = (snapshotMode: string) => firstBatch(fixture({ tables: [`${name}.t`], snapshotMode }));
    const told = (records: Awaited<ReturnType<typeof read>>, side: 'before' | 'after', op: string) =>
      records.flatMap(({ value }) =>
        value !== null && (value as Struct).op === op ? [plain((value as Struct)[side] as Struct)] : [],
      );
    const expected = told(await read('initial'), 'after', 'r');
    expect(expected).toHaveLength(rows.length);
    await run('UPDATE t SET id = id + 1000 WHERE id % 3 = 0; DELETE FROM t; ');
    const changes = await read('never');
    expect(told(changes, 'after', 'c').slice(0, rows.length)).toEqual(expected);
    const moved = (row: Struct) => ((row.id as number) % 3 === 0 ? { ...row, id: (row.id as number) + 1000 } : row);
    const deleted = told(changes, 'before', 'd').slice(rows.length / 3);
    const byId = (a: Struct, b: Struct) => (a.id as number) - (b.id as number);
    expect(deleted.sort(byId)).toEqual(expected.map(moved).sort(byId));
  });
});

/** The records of the first poll that has some. Before them the place of the changes comes alone, and the plan. */
const firstBatch = (of: Omit<SourceFixture, 'expected'>) => {
  const { withTask, pollOnce, advance } = createRunner({ ...of, expected: [] } as SourceFixture);
  return withTask(async (task) => {
    const offsets: OffsetMap = new Map();
    for (;;) {
      const { batch, rejected = [], offsets: moved } = await pollOnce(task, offsets, { maxBytes: 1e9 });
      expect(rejected).toEqual([]);
      if (batch.count > 0) return [...batch];
      advance(offsets, moved);
    }
  });
};

const integer = (min: bigint, max: bigint) => fc.bigInt({ min, max }).map(String);
const decimal = (whole: number, fraction: number) =>
  fc
    .tuple(fc.constantFrom('', '-'), fc.bigInt({ min: 0n, max: 10n ** BigInt(whole) - 1n }), digits(fraction))
    .map(([sign, a, b]) => `${sign}${a}.${b}`);
const digits = (count: number) =>
  fc
    .bigInt({ min: 0n, max: 10n ** BigInt(count) - 1n })
    .map((n) => (count === 0 ? '0' : String(n).padStart(count, '0')));
const day = (from: string, to: string) =>
  fc.date({ min: new Date(from), max: new Date(to), noInvalidDate: true }).map((date) => date.toISOString());
const wallClock = (decimals: number, [from, to]: readonly [string, string]) =>
  fc
    .tuple(day(from, to), digits(decimals))
    .map(([date, f]) => `'${date.slice(0, 19).replace('T', ' ')}${decimals > 0 ? `.${f}` : ''}'`);
const ever = ['1000-01-01T00:00:00Z', '9999-12-31T23:59:59Z'] as const;
const epoch = ['1970-01-02T00:00:00Z', '2038-01-18T00:00:00Z'] as const;
const quoted = (texts: fc.Arbitrary<string>) =>
  texts.map((text) => `'${text.replace(/[\\']/g, '\\$&').replaceAll('\0', '')}'`);
const hex = (max: number) =>
  fc.uint8Array({ maxLength: max }).map((bytes) => `x'${Buffer.from(bytes).toString('hex')}'`);

/** Literals of columns' types. */
const generated: Readonly<Record<string, fc.Arbitrary<string>>> = {
  tinyint: integer(-128n, 127n),
  'smallint unsigned': integer(0n, 65_535n),
  mediumint: integer(-8_388_608n, 8_388_607n),
  'mediumint unsigned': integer(0n, 16_777_215n),
  int: integer(-(2n ** 31n), 2n ** 31n - 1n),
  'int unsigned': integer(0n, 2n ** 32n - 1n),
  bigint: integer(-(2n ** 63n), 2n ** 63n - 1n),
  'bigint unsigned': integer(0n, 2n ** 64n - 1n),
  'decimal(15,2)': decimal(13, 2),
  'decimal(40,20)': decimal(20, 20),
  'decimal(9,9)': decimal(0, 9),
  'decimal(11,1)': decimal(10, 1),
  double: fc
    .double({ noNaN: true, noDefaultInfinity: true, min: -1e300, max: 1e300 })
    .map((n) => (n + 0).toExponential()),
  float: fc.integer({ min: -(2 ** 24), max: 2 ** 24 }).map((n) => String(n / 256)),
  'bit(1)': fc.constantFrom("b'0'", "b'1'"),
  'bit(20)': integer(0n, 2n ** 20n - 1n),
  'varchar(40)': quoted(fc.string({ unit: 'binary', maxLength: 20 }).filter((text) => text.isWellFormed())),
  'char(20)': quoted(fc.string({ unit: 'grapheme-ascii', maxLength: 20 }).map((text) => text.trimEnd())),
  'varchar(20) charset latin1': quoted(fc.string({ unit: fc.constantFrom('a', 'é', '€', 'ÿ'), maxLength: 20 })),
  text: quoted(fc.string({ maxLength: 300 })),
  'binary(8)': hex(8),
  'varbinary(300)': hex(300),
  blob: hex(40),
  date: day(...ever).map((date) => `'${date.slice(0, 10)}'`),
  datetime: wallClock(0, ever),
  'datetime(3)': wallClock(3, ever),
  'datetime(6)': wallClock(6, ever),
  timestamp: wallClock(0, epoch),
  'timestamp(5)': wallClock(5, epoch),
  'time(2)': wallClock(2, epoch).map((text) => `'${text.slice(12)}`),
  time: wallClock(0, epoch).map((text) => `'${text.slice(12)}`),
  year: integer(1901n, 2155n),
  "enum('a','bb','ö')": fc.constantFrom("'a'", "'bb'", "'ö'"),
  "set('a','bb','ö')": fc.constantFrom("''", "'a,ö'", "'bb'"),
};
