import fc from 'fast-check';
import { extra, types } from '../functions/postgres/type-values.ts';
import type { SourceColumn } from './source-columns.ts';

/** By type, the ends of its range and what is odd, as PostgreSQL reads them. */
const edges: { readonly [type: string]: readonly string[] } = {
  smallint: ['-32768', '32767', '0'],
  integer: ['-2147483648', '2147483647'],
  bigint: ['-9223372036854775808', '9223372036854775807'],
  oid: ['4294967295', '0'],
  real: ['NaN', 'Infinity', '-Infinity', '1e-45', '3.4028235e38', '0.1', '16777216'],
  'double precision': ['NaN', 'Infinity', '-Infinity', '5e-324', '1.7976931348623157e308', '0.1'],
  numeric: ['NaN', 'Infinity', '-Infinity', '0', '1e400', `0.${'0'.repeat(30)}1`, '9'.repeat(66), '-0.5', '1.500'],
  'numeric(12,2)': ['9999999999.99', '-9999999999.99', '0.01', 'NaN'],
  'numeric(5,0)': ['99999', '-99999'],
  'numeric(2,-3)': ['99000', '-1000'],
  'numeric(3,5)': ['0.00999', '-0.00001'],
  boolean: ['t', 'f'],
  text: ['', ' ', 'a ', "a'b\\c\n\t", '\u0001😀', 'ä'.repeat(5000)],
  'varchar(40)': ['', ' ', '😀'.repeat(40)],
  'char(8)': ['', 'a', '12345678'],
  bytea: ['\\x', '\\x00', '\\xff00275c'],
  date: ['0001-01-01', '9999-12-31', '10000-01-01', '294276-12-31', 'infinity', '-infinity', '0044-03-15 BC'],
  time: ['00:00:00', '24:00:00', '23:59:59.999999'],
  timetz: ['00:00:00+14', '23:59:59.999999-12:30'],
  timestamp: [
    '0001-01-01 00:00:00',
    '9999-12-31 23:59:59.999999',
    '10000-01-01 00:00:00',
    'infinity',
    '0044-03-15 12:00 BC',
  ],
  timestamptz: [
    '0001-01-01 00:00:00+00',
    '9999-12-31 23:59:59.999999+00',
    '10000-01-01 00:00:00+00',
    '-infinity',
    '0001-01-01 00:00:00+14',
  ],
  'timestamptz(0)': ['2024-02-29 23:59:59+00', '1900-01-01 00:00:00+00'],
  interval: ['1 year 2 mons -3 days 04:05:06.789', '-1 mons +1 day', '00:00:00', '178000000 years'],
  uuid: ['00000000-0000-0000-0000-000000000000', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'],
  json: [
    'null',
    '{"b": 1, "a": 1.50, "a": 2}',
    '1e2',
    '123456789012345678901234567890.5',
    '"\\u0000"',
    '"\\ud83d\\ude00"',
  ],
  jsonb: ['null', '{"b": 1, "a": 1.50}', '1e400', '123456789012345678901234567890.5', '[]', '"\\ud83d\\ude00"'],
  xml: ['<a>ä</a>'],
  inet: ['10.0.0.1', '10.0.0.0/8', '2001:db8::1/64'],
  cidr: ['10.0.0.0/8', '2001:db8::/32'],
  macaddr: ['08:00:2b:01:02:03'],
  money: ['-92233720368547758.08', '92233720368547758.07', '0'],
  'bit(3)': ['101', '000'],
  'bit varying(70)': ['', '1'.repeat(70)],
  point: ['(1,2.5)', '(NaN,Infinity)'],
  box: ['(3,4),(1,2)'],
  int4range: ['[1,5)', 'empty', '(,)'],
  tstzrange: ['["2024-01-01 00:00:00+00",infinity)', 'empty'],
  int4multirange: ['{[1,3),[5,7)}', '{}'],
  tsvector: ["'a':1 'b':2", ''],
  mood: ['sad', 'very happy'],
  price: ['999999.99', '-0.01'],
  deep_price: ['999999.99'],
  pair: ['(1,"a b")', '(,)'],
  'integer[]': ['{}', '{NULL}', '{-2147483648,2147483647}', '{{1,2},{3,4}}', '[0:1]={1,2}'],
  'bigint[]': ['{-9223372036854775808,9223372036854775807}'],
  'text[]': ['{"",NULL,"NULL","a,b\\"c"}'],
  'numeric(12,2)[]': ['{1.50,NULL}', '{NaN}'],
  'boolean[]': ['{t,f,NULL}'],
  'double precision[]': ['{NaN,Infinity,-Infinity,0.1}'],
  'timestamptz[]': ['{"2024-02-29 23:59:59.5+00",NULL}', '{infinity}'],
  'timestamp[]': ['{"2024-02-29 23:59:59.5"}', '{"0044-03-15 12:00 BC"}'],
  'date[]': ['{2024-02-29}', '{infinity}'],
  'bytea[]': ['{"\\\\x00ff","\\\\x"}'],
  'jsonb[]': ['{"{\\"a\\": 1}","[1,2]"}'],
  'uuid[]': ['{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'],
  'mood[]': ['{sad,"very happy"}'],
  'price[]': ['{1.5}'],
  'box[]': ['{(3,4),(1,2);(1,1),(0,0)}'],
};

const literal = (text: string) => `'${text.replaceAll("'", "''")}'`;

const textOf = (type: string) => (column: string) => {
  if (type.endsWith('[]')) return `to_json(${column})::text`;
  if (type === 'bytea') return `encode(${column}, 'hex')`;
  // As the type itself writes it: char and inet have casts to text that write something else.
  return `CASE WHEN num_nonnulls(${column}) = 1 THEN format('%s', ${column}) END`;
};

export const makeTypes = extra;

/** Types whose values are few, or of one form: their edges are all. */
const others = ['cidr', 'macaddr', 'bit varying(70)', 'tstzrange', 'int4multirange'];

export const postgresColumns: readonly SourceColumn[] = [...Object.keys(types), ...others].map((type) => ({
  type,
  values: (types[type]?.[1] ?? fc.constantFrom(...edges[type]!)).map(literal),
  edges: edges[type]!.map(literal),
  text: textOf(type),
}));
