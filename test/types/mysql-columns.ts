import fc from 'fast-check';
import { digits } from '../kit/canonical-values.ts';
import type { SourceColumn } from './source-columns.ts';

const integer = (min: bigint, max: bigint) => ({
  values: fc.bigInt({ min, max }).map(String),
  edges: [min, max, 0n, 1n].map(String),
});
const decimal = (whole: number, fraction: number) => {
  const most = `${'9'.repeat(whole) || '0'}${fraction === 0 ? '' : `.${'9'.repeat(fraction)}`}`;
  return {
    values: fc
      .tuple(fc.constantFrom('', '-'), digits(Math.min(1, whole), whole), digits(0, fraction))
      .map(([sign, a, b]) => `${sign}${a || '0'}${b === '' ? '' : `.${b}`}`),
    edges: [most, `-${most}`, '0', ...(fraction > 0 ? [`-0.${'0'.repeat(fraction - 1)}1`] : [])],
  };
};
const pad = (n: number, length = 2) => String(n).padStart(length, '0');
const quoted = (text: string) => `'${text.replace(/[\\']/g, '\\$&').replaceAll('\0', '\\0')}'`;
const texts = (values: fc.Arbitrary<string>, ...edges: readonly string[]) => ({
  values: values.map(quoted),
  edges: ['', ' ', "a'b\\c\n\t", ...edges].map(quoted),
});
const unicode = (maxLength: number) =>
  fc.string({ unit: 'binary', maxLength }).filter((text) => text.isWellFormed() && !text.includes('\0'));
const hex = (bytes: Uint8Array) => `x'${Buffer.from(bytes).toString('hex')}'`;
const bytes = (max: number, ...edges: readonly Uint8Array[]) => ({
  values: fc.uint8Array({ maxLength: max }).map(hex),
  edges: [Uint8Array.of(), Uint8Array.of(0), Uint8Array.of(0xff, 0, 0x80), ...edges].map(hex),
});
const fraction = (decimals: number) =>
  decimals === 0 ? fc.constant('') : digits(decimals, decimals).map((some) => `.${some}`);
const day = fc
  .date({ min: new Date('0001-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })
  .map((date) => date.toISOString().slice(0, 10));
const clock = (decimals: number, hours = fc.nat(23)) =>
  fc
    .tuple(hours, fc.nat(59), fc.nat(59), fraction(decimals))
    .map(([h, m, s, f]) => `${pad(h)}:${pad(m)}:${pad(s)}${f}`);
const most = (decimals: number) => (decimals === 0 ? '' : `.${'9'.repeat(decimals)}`);
const datetime = (decimals: number) => ({
  values: fc.tuple(day, clock(decimals)).map(([d, t]) => `'${d} ${t}'`),
  edges: [
    ...[`'0001-01-01 00:00:00'`, `'1000-01-01 00:00:00'`, `'9999-12-31 23:59:59${most(decimals)}'`],
    ...["'0000-00-00 00:00:00'", "'2024-00-10 00:00:00'", "'2024-02-29 00:00:00'"],
  ],
});
const timestamp = (decimals: number) => ({
  values: fc
    .tuple(fc.integer({ min: 1, max: 2 ** 31 - 1 }), fraction(decimals))
    .map(([seconds, f]) => `'${new Date(seconds * 1000).toISOString().slice(0, 19).replace('T', ' ')}${f}'`),
  edges: ["'1970-01-01 00:00:01'", `'2038-01-19 03:14:07${most(decimals)}'`, "'0000-00-00 00:00:00'"],
});
const time = (decimals: number) => ({
  values: fc.tuple(fc.constantFrom('', '', '', '-'), clock(decimals, fc.nat(30))).map(([sign, t]) => `'${sign}${t}'`),
  edges: [`'00:00:00'`, `'23:59:59${most(decimals)}'`, `'24:00:00'`, `'-00:00:01'`, `'838:59:59'`],
});
const double = fc
  .double({ noNaN: true, noDefaultInfinity: true })
  .map((value) => (Object.is(value, -0) ? '0' : value.toExponential()));
const json = fc
  .jsonValue({ maxDepth: 3 })
  .map((value) => JSON.stringify(value))
  .filter((text) => !/\\u0000|\\ud/i.test(text))
  .map(quoted);
const label = (...labels: readonly string[]) => ({
  values: fc.constantFrom(...labels.map(quoted)),
  edges: labels.map(quoted),
});

/** What MySQL and MariaDB have. */
export const mysqlColumns: readonly SourceColumn[] = [
  { type: 'tinyint', ...integer(-128n, 127n) },
  { type: 'tinyint(1)', ...integer(-128n, 127n) },
  { type: 'tinyint unsigned', ...integer(0n, 255n) },
  { type: 'smallint', ...integer(-32768n, 32767n) },
  { type: 'smallint unsigned', ...integer(0n, 65_535n) },
  { type: 'mediumint', ...integer(-8_388_608n, 8_388_607n) },
  { type: 'mediumint unsigned', ...integer(0n, 16_777_215n) },
  { type: 'int', ...integer(-(2n ** 31n), 2n ** 31n - 1n) },
  { type: 'int unsigned', ...integer(0n, 2n ** 32n - 1n) },
  { type: 'bigint', ...integer(-(2n ** 63n), 2n ** 63n - 1n) },
  { type: 'bigint unsigned', ...integer(0n, 2n ** 64n - 1n) },
  { type: 'decimal(10,2)', ...decimal(8, 2) },
  { type: 'decimal(65,0)', ...decimal(65, 0) },
  { type: 'decimal(65,30)', ...decimal(35, 30) },
  { type: 'decimal(30,30)', ...decimal(0, 30) },
  {
    type: 'float',
    values: fc
      .float({ noNaN: true, noDefaultInfinity: true })
      .map((value) => (Object.is(value, -0) ? '0' : value.toExponential())),
    edges: ['0', '1.17549435e-38', '3.4028234e38', '-3.4028234e38', '16777216', '0.1', '1e-45'],
    // As text it has six digits.
    text: (column) => `CAST(${column} + 0e0 AS CHAR)`,
  },
  {
    type: 'double',
    values: double,
    edges: ['0', '2.2250738585072014e-308', '1.7976931348623157e308', '5e-324', '0.1', '9007199254740993'],
  },
  { type: 'bit(1)', values: fc.constantFrom("b'0'", "b'1'"), edges: ["b'0'", "b'1'"], text: (c) => `${c} + 0` },
  {
    type: 'bit(20)',
    ...integer(0n, 2n ** 20n - 1n),
    text: (column) => `LPAD(HEX(${column} + 0), 6, '0')`,
  },
  { type: 'bit(64)', ...integer(0n, 2n ** 64n - 1n), text: (column) => `LPAD(HEX(${column} + 0), 16, '0')` },
  {
    type: 'char(20)',
    ...texts(
      unicode(20).map((text) => text.replace(/ +$/, '')),
      '😀'.repeat(20),
    ),
  },
  { type: 'varchar(300)', ...texts(unicode(60), 'a ', '\0', 'ä☃😀'.repeat(100)) },
  {
    type: 'varchar(20) charset latin1',
    ...texts(fc.string({ unit: fc.constantFrom('a', 'é', '€', 'ÿ', '\u0081'), maxLength: 20 }), '€ÿ'),
  },
  { type: 'varchar(20) charset utf16', ...texts(unicode(20), '😀ä') },
  {
    type: 'varchar(20) charset sjis',
    ...texts(fc.string({ unit: fc.constantFrom('a', '表', 'ソ', '~', 'ｱ'), maxLength: 20 }), '表'),
  },
  { type: 'tinytext', ...texts(unicode(50), 'x'.repeat(255)) },
  { type: 'text', ...texts(unicode(300)) },
  { type: 'mediumtext', ...texts(unicode(30), '☃'.repeat(30_000)) },
  { type: 'longtext', ...texts(unicode(30)) },
  { type: 'binary(8)', ...bytes(8, new Uint8Array(8).fill(255)) },
  { type: 'varbinary(300)', ...bytes(300) },
  { type: 'tinyblob', ...bytes(40) },
  { type: 'blob', ...bytes(40) },
  { type: 'mediumblob', ...bytes(10, new Uint8Array(70_000).fill(0x27)) },
  { type: 'longblob', ...bytes(40) },
  { type: "enum('a','b c','d''e','ö')", ...label('a', 'b c', "d'e", 'ö') },
  { type: "set('a','bb','ö')", ...label('', 'a,ö', 'bb', 'a,bb,ö') },
  { type: 'date', values: day.map(quoted), edges: ["'0001-01-01'", "'9999-12-31'", "'0000-00-00'", "'2024-02-00'"] },
  { type: 'datetime', ...datetime(0) },
  { type: 'datetime(3)', ...datetime(3) },
  { type: 'datetime(6)', ...datetime(6) },
  { type: 'timestamp', ...timestamp(0) },
  { type: 'timestamp(6)', ...timestamp(6) },
  { type: 'time', ...time(0) },
  { type: 'time(6)', ...time(6) },
  { type: 'year', values: fc.integer({ min: 1901, max: 2155 }).map(String), edges: ['1901', '2155', "'0000'"] },
  {
    type: 'json',
    only: 'mysql',
    values: json,
    edges: [
      ...["'null'", "'[]'", "'{}'", "'18446744073709551615'", "'-9223372036854775808'", `'"\\\\u0000"'`, `'"ä😀"'`],
      ...["'0.1'", "'1e300'", "'0.30000000000000004'", "'123456789012345678901234567890'"],
      ...["JSON_ARRAY(CAST(1.10 AS DECIMAL(20,10)), CAST('12345678901234567890.123' AS DECIMAL(30,10)))"],
      ...["JSON_ARRAY(TIME '12:34:56', TIMESTAMP '2024-02-29 01:02:03.5', DATE '2024-02-29')", "JSON_ARRAY(x'00ff')"],
      ...["JSON_ARRAY(true, false, null, 7, 'text')"],
    ],
  },
  { type: 'json', only: 'mariadb', values: json, edges: ["'null'", `'{"b": 1, "a" : 1.50}'`, `'"\\\\u0000"'`] },
  {
    type: 'point',
    values: fc.tuple(fc.integer(), fc.integer()).map(([x, y]) => `ST_GeomFromText('POINT(${x} ${y})')`),
    edges: ["ST_GeomFromText('POINT(1 2)', 0)"],
  },
  {
    type: 'geometry',
    values: fc.constant("ST_GeomFromText('LINESTRING(0 0, 1 1)')"),
    edges: ["ST_GeomFromText('POINT(0 0)')"],
  },
  {
    type: 'uuid',
    only: 'mariadb',
    values: fc.uuid().map(quoted),
    edges: ["'00000000-0000-0000-0000-000000000000'", "'FFFFFFFF-ffff-ffff-ffff-ffffffffffff'"],
  },
  {
    type: 'inet4',
    only: 'mariadb',
    values: fc.ipV4().map(quoted),
    edges: ["'0.0.0.0'", "'255.255.255.255'", "'10.0.0.0'"],
  },
  {
    type: 'inet6',
    only: 'mariadb',
    values: fc.ipV6().map(quoted),
    edges: ["'::'", "'2001:db8::'", "'::ffff:1.2.3.4'"],
  },
];
