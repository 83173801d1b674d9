import { describe, expect, test } from 'vitest';
import type { Struct, StructSchema } from '../../../shared/connect/schema.ts';
import { createRunner, type OffsetMap, type SourceFixture } from '../../kit/source-runner.ts';
import { useMysql } from './cdc-fixture.ts';

/** A column's type, a literal, and the value it is. */
const values: readonly (readonly [type: string, literal: string, value: unknown])[] = [
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
  ['float', '1.17549e-38', Math.fround(1.17549e-38)],
  ['float', '16777217', 16777216],
  ['double', '2.2250738585072014e-308', 2.2250738585072014e-308],
  ['double', '0.1', 0.1],
  ['bit(1)', "b'1'", true],
  ['bit(1)', "b'0'", false],
  ['bit(12)', "b'100000000001'", Buffer.from([0x08, 0x01])],
  ['bit(64)', "b'1'", Buffer.from([0, 0, 0, 0, 0, 0, 0, 1])],
  ['char(5)', "'ä☃'", 'ä☃'],
  ['varchar(300)', "repeat('😀', 300)", '😀'.repeat(300)],
  ['varchar(10) charset latin1', "'äöü'", 'äöü'],
  ['varchar(10) charset utf16', "'ä😀'", 'ä😀'],
  ['text', "'a\\0b\\n\\t'", 'a\0b\n\t'],
  ['longtext', "''", ''],
  ['binary(4)', "x'0100'", Buffer.from([1, 0, 0, 0])],
  ['varbinary(10)', "x'00ff00'", Buffer.from([0, 255, 0])],
  ['blob', "x''", Buffer.alloc(0)],
  ['longblob', "repeat(x'ff', 70000)", Buffer.alloc(70_000, 0xff)],
  ["enum('a','b c','d''e')", "'d''e'", "d'e"],
  ["set('a','b','c')", "'a,c'", 'a,c'],
  ["set('a','b','c')", "''", ''],
  ['date', "'2024-02-29'", '2024-02-29'],
  ['date', "'1000-01-01'", '1000-01-01'],
  ['datetime', "'9999-12-31 23:59:59'", '9999-12-31T23:59:59'],
  ['datetime(6)', "'2024-02-29 00:00:00.000001'", '2024-02-29T00:00:00.000001'],
  ['datetime(3)', "'2024-02-29 00:00:00.120'", '2024-02-29T00:00:00.120'],
  ['timestamp(6) NULL', "'2024-10-27 00:30:00.123456'", '2024-10-27T00:30:00.123456Z'],
  ['timestamp NULL', "'1970-01-01 00:00:01'", '1970-01-01T00:00:01Z'],
  ['time', "'23:59:59'", '23:59:59'],
  ['time(6)', "'00:00:00.000001'", '00:00:00.000001'],
  ['year', '2155', 2155],
  ['json', `'{"a": [1, 2.50, null, true, "\\\\u00e4"], "b": {}}'`, { a: [1, 2.5, null, true, 'ä'], b: {} }],
  ['json', "'12345678901234567890'", 12345678901234567890n],
  ['point', "ST_GeomFromText('POINT(1 2)')", Buffer.from('000000000101000000000000000000f03f0000000000000040', 'hex')],
];

describe.each(['mariadb', 'mysql'] as const)('types of %s', (flavour) => {
  const { run, database, fixture } = useMysql(flavour);

  test('a value is the same, whether it is read from the table or from the binlog, and so is its schema', async () => {
    const name = await database();
    // MariaDB's json is text.
    const kept = values.filter(([type]) => flavour === 'mysql' || type !== 'json');
    const columns = kept.map(([type], i) => `c${i} ${type}${type.endsWith('NULL') ? '' : ' NULL'}`);
    await run(`CREATE TABLE t (id int PRIMARY KEY, ${columns.join(', ')}) CHARSET utf8mb4 ROW_FORMAT=DYNAMIC`);
    await run(`INSERT INTO t VALUES (1, ${kept.map(([, literal]) => literal).join(', ')})`);
    await run('INSERT INTO t (id) VALUES (2)');
    const read = async (snapshotMode: string) => {
      const of = { ...fixture({ tables: [`${name}.t`], snapshotMode }), expected: [] } as SourceFixture;
      const { withTask, pollOnce, advance } = createRunner(of);
      return withTask(async (task) => {
        const offsets: OffsetMap = new Map();
        // Before the records the place of the changes comes alone, and the plan.
        for (;;) {
          const { batch, rejected = [], offsets: moved } = await pollOnce(task, offsets);
          expect(rejected).toEqual([]);
          if (batch.count > 0) return [...batch];
          advance(offsets, moved);
        }
      });
    };
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
});

/** Buffers and plain arrays of bytes alike. */
const plain = (row: Struct): Struct =>
  Object.fromEntries(
    Object.entries(row).map(([name, value]) => [
      name,
      value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value,
    ]),
  );
