import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Struct, StructSchema } from '../../../shared/connect/schema.ts';
import { createRunner, type OffsetMap, type SourceFixture } from '../../kit/source-runner.ts';
import { useMysql } from './cdc-fixture.ts';

/** A column's type, a literal, the value it is, and who has it where not both do. */
const values: readonly (readonly [type: string, literal: string, value: unknown, flavour?: string])[] = [
  ['tinyint', '-128', -128],
  ['tinyint unsigned', '255', 255],
  ['tinyint(1)', '7', 7],
  ['smallint', '-32768', -32768],
  ['smallint unsigned', '65535', 65535],
  ['mediumint', '-8388608', -8388608],
  ['mediumint unsigned', '16777215', 16777215],
  ['int', '-2147483648', -2147483648],
  ['int unsigned', '4294967295', 4294967295n],
  ['int unsigned zerofill', '7', 7n],
  ['bigint', '-9223372036854775808', -9223372036854775808n],
  ['bigint', '9007199254740993', 9007199254740993n],
  ['bigint unsigned', '18446744073709551615', '18446744073709551615'],
  ['decimal(10,2)', '-12345678.90', '-12345678.90'],
  ['decimal(65,30)', '1.000000000000000000000000000001', '1.000000000000000000000000000001'],
  ['decimal(5,0)', '0', '0'],
  ['decimal(3,3)', '-0.001', '-0.001'],
  ['decimal(65,0)', `-${'9'.repeat(65)}`, `-${'9'.repeat(65)}`],
  ['decimal(38,19)', '1000000000.0000000001', '1000000000.0000000001000000000'],
  ['decimal(18,9)', '-1.000000001', '-1.000000001'],
  ['decimal(30,30)', '0.000000001', '0.000000001000000000000000000000'],
  ['decimal(9,4)', '0.5', '0.5000'],
  ['decimal(6,2) unsigned', '9999.99', '9999.99'],
  ['float', '1.17549e-38', Math.fround(1.17549e-38)],
  ['float', '16777217', 16777216],
  ['double', '2.2250738585072014e-308', 2.2250738585072014e-308],
  ['double', '0.1', 0.1],
  ['bit(1)', "b'1'", true],
  ['bit(1)', "b'0'", false],
  ['bit(12)', "b'100000000001'", Buffer.from([0x08, 0x01])],
  ['bit(64)', "b'1'", Buffer.from([0, 0, 0, 0, 0, 0, 0, 1])],
  ['bit(8)', "b'10000000'", Buffer.from([0x80])],
  ['char(5)', "'ä☃'", 'ä☃'],
  ['char(255)', "repeat('😀', 255)", '😀'.repeat(255)],
  ['varchar(10) charset latin1', "'only ascii'", 'only ascii'],
  ['varchar(10) charset latin1', "'€'", '€'],
  ['varchar(10) charset sjis', "'表a'", '表a'],
  ['text charset cp1250', "'žluť'", 'žluť'],
  ['varchar(10) charset ucs2', "'ä'", 'ä'],
  ['varchar(10) charset ascii', "'~'", '~'],
  ['tinytext', "repeat('x', 255)", 'x'.repeat(255)],
  ['mediumtext', "repeat('x', 70000)", 'x'.repeat(70_000)],
  ['varchar(300)', "repeat('😀', 300)", '😀'.repeat(300)],
  ['varchar(10) charset latin1', "'äöü'", 'äöü'],
  ['varchar(10) charset utf16', "'ä😀'", 'ä😀'],
  ['text', "'a\\0b\\n\\t'", 'a\0b\n\t'],
  ['longtext', "''", ''],
  ['binary(4)', "x'0100'", Buffer.from([1, 0, 0, 0])],
  ['binary(3)', "x'000000'", Buffer.from([0, 0, 0])],
  ['binary(3)', "x'010203'", Buffer.from([1, 2, 3])],
  ['varbinary(10)', "x'00ff00'", Buffer.from([0, 255, 0])],
  ['blob', "x''", Buffer.alloc(0)],
  ['longblob', "repeat(x'ff', 70000)", Buffer.alloc(70_000, 0xff)],
  ["enum('a','b c','d''e')", "'d''e'", "d'e"],
  [`enum(${Array.from({ length: 300 }, (_, i) => `'v${i}'`).join()})`, "'v299'", 'v299'],
  ["set('a','b','c')", "'a,c'", 'a,c'],
  [`set(${Array.from({ length: 64 }, (_, i) => `'v${i}'`).join()})`, "'v0,v33,v63'", 'v0,v33,v63'],
  ["set('a','b','c')", "''", ''],
  ['date', "'2024-02-29'", '2024-02-29'],
  ['date', "'1000-01-01'", '1000-01-01'],
  ['datetime', "'9999-12-31 23:59:59'", '9999-12-31T23:59:59'],
  ['datetime(6)', "'2024-02-29 00:00:00.000001'", '2024-02-29T00:00:00.000001'],
  ['datetime(3)', "'2024-02-29 00:00:00.120'", '2024-02-29T00:00:00.120'],
  ['timestamp(6) NULL', "'2024-10-27 00:30:00.123456'", '2024-10-27T00:30:00.123456Z'],
  ['datetime(1)', "'2024-02-29 00:00:00.9'", '2024-02-29T00:00:00.9'],
  ['datetime(5)', "'2024-02-29 23:00:00.00001'", '2024-02-29T23:00:00.00001'],
  ['timestamp NULL', "'1970-01-01 00:00:01'", '1970-01-01T00:00:01Z'],
  ['timestamp NULL', "'2000-02-29 23:59:59'", '2000-02-29T23:59:59Z'],
  ['timestamp(3) NULL', "'2038-01-19 03:14:07.999'", '2038-01-19T03:14:07.999Z'],
  ['time', "'23:59:59'", '23:59:59'],
  ['time(6)', "'00:00:00.000001'", '00:00:00.000001'],
  ['time(4)', "'00:00:00'", '00:00:00.0000'],
  ['year', '2155', 2155],
  ['year', "'0000'", 0],
  ['uuid', "'123E4567-e89b-12d3-a456-426614174000'", '123e4567-e89b-12d3-a456-426614174000', 'mariadb'],
  ['uuid', "'123e4567-e89b-12d3-a456-420000000000'", '123e4567-e89b-12d3-a456-420000000000', 'mariadb'],
  ['inet4', "'192.168.0.0'", '192.168.0.0', 'mariadb'],
  ['inet6', "'2001:db8::'", '2001:db8::', 'mariadb'],
  ['varchar(1000) compressed', "repeat('ab', 500)", 'ab'.repeat(500), 'mariadb'],
  ['text compressed', "'ä'", 'ä', 'mariadb'],
  ['json', `'{"a": [1, 2.50, null, true, "\\\\u00e4"], "b": {}}'`, { a: [1, 2.5, null, true, 'ä'], b: {} }, 'mysql'],
  ['json', "'12345678901234567890'", 12345678901234567890n, 'mysql'],
  ['point', "ST_GeomFromText('POINT(1 2)')", Buffer.from('000000000101000000000000000000f03f0000000000000040', 'hex')],
];

describe.each(['mariadb', 'mysql'] as const)('types of %s', (flavour) => {
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

/** Buffers and plain arrays of bytes alike. */
const plain = (row: Struct): Struct =>
  Object.fromEntries(
    Object.entries(row).map(([name, value]) => [
      name,
      value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value,
    ]),
  );
