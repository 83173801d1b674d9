import fc from 'fast-check';

const digits = (min: number, max: number) =>
  fc.array(fc.integer({ min: 0, max: 9 }), { minLength: min, maxLength: max }).map((some) => some.join(''));
const number = (whole: number, fraction: number) =>
  fc.tuple(fc.boolean(), digits(1, whole), digits(0, fraction)).map(([isNegative, a, b]) => {
    const text = b === '' ? a : `${a}.${b}`;
    return isNegative ? `-${text}` : text;
  });
const two = (max: number) => fc.integer({ min: 0, max }).map((n) => String(n).padStart(2, '0'));
const date = fc
  .tuple(fc.integer({ min: 1, max: 9999 }), fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 28 }))
  .map(([y, m, d]) => `${String(y).padStart(4, '0')}-${String(m).padStart(2, '0')}-${String(d).padStart(2, '0')}`);
const time = fc.tuple(two(23), two(59), two(59), digits(0, 6)).map(([h, m, s, f]) => `${h}:${m}:${s}${f && `.${f}`}`);
const dateTime = fc.tuple(date, time).map(([d, t]) => `${d} ${t}`);
const text = fc.string({ unit: 'binary', maxLength: 30 }).filter((s) => !s.includes('\0') && s.isWellFormed());
const json = fc
  .jsonValue({ maxDepth: 3 })
  .map((value) => JSON.stringify(value))
  .filter((s) => s !== 'null' && !/\\u0000|\\ud/i.test(s));
const item = (one: fc.Arbitrary<string>) =>
  fc
    .array(fc.option(one, { freq: 4 }), { maxLength: 5 })
    .map((items) => `{${items.map((s) => (s === null ? 'NULL' : `"${s.replace(/[\\"]/g, '\\$&')}"`)).join(',')}}`);
const hex = fc.uint8Array({ maxLength: 20 }).map((bytes) => `\\x${Buffer.from(bytes).toString('hex')}`);
const int4 = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }).map(String);
const float = fc.oneof(fc.double().map(String), fc.constantFrom('NaN', 'Infinity', '-Infinity', '-0'));

/** By column type: what it becomes, and values of it as PostgreSQL reads them. */
export const types: { readonly [type: string]: readonly [canonical: string, values: fc.Arbitrary<string>] } = {
  smallint: ['int16', fc.integer({ min: -32768, max: 32767 }).map(String)],
  integer: ['int32', int4],
  bigint: ['int64', fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String)],
  oid: ['int64', fc.integer({ min: 0, max: 2 ** 32 - 1 }).map(String)],
  real: ['float32', fc.float().map(String)],
  'double precision': ['float64', float],
  numeric: ['decimal', number(40, 30)],
  'numeric(12,2)': ['decimal(12,2)', number(10, 2)],
  'numeric(5,0)': ['decimal(5,0)', number(5, 0)],
  'numeric(2,-3)': ['decimal', number(4, 0)],
  'numeric(3,5)': ['decimal', fc.constantFrom('0.00999', '-0.00001', '0')],
  boolean: ['boolean', fc.constantFrom('t', 'f')],
  text: ['string', text],
  'varchar(40)': ['string', text],
  'char(8)': ['string', fc.constantFrom('', 'a', 'ä b')],
  bytea: ['bytes', hex],
  date: ['date', date],
  time: ['time', fc.oneof(time, fc.constant('24:00:00'))],
  timetz: ['string', time.map((t) => `${t}+05:30`)],
  timestamp: ['timestamp local', dateTime],
  timestamptz: ['timestamp', dateTime.map((t) => `${t}+03`).filter((t) => !t.startsWith('0001-01-01'))],
  'timestamptz(0)': ['timestamp', date.map((d) => `${d} 23:59:59+00`)],
  interval: ['string', fc.tuple(int4, int4).map(([a, b]) => `${Number(a) % 1000} mons ${b} seconds`)],
  uuid: ['uuid', fc.uuid()],
  json: ['any', json.map((s) => JSON.stringify(JSON.parse(s), null, '\t'))],
  jsonb: ['any', json],
  xml: ['string', fc.constantFrom('<a>ä</a>', '<b/>')],
  inet: ['string', fc.ipV4()],
  money: ['string', number(8, 2)],
  'bit(3)': ['string', fc.constantFrom('101', '000')],
  point: ['string', fc.constantFrom('(1,2.5)', '(-1e-05,0)')],
  box: ['string', fc.constant('(3,4),(1,2)')],
  int4range: ['string', fc.constantFrom('[1,5)', 'empty', '(,3)')],
  tsvector: ['string', fc.constantFrom("'a':1 'b':2", '')],
  mood: ['string', fc.constantFrom('sad', 'very happy')],
  price: ['decimal(8,2)', number(6, 2)],
  deep_price: ['decimal(8,2)', number(6, 2)],
  pair: ['string', fc.constantFrom('(1,"a b")', '(,)')],
  'integer[]': ['array<int32?>', item(int4)],
  'bigint[]': ['array<int64?>', item(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String))],
  'text[]': ['array<string?>', item(text)],
  'numeric(12,2)[]': ['array<decimal(12,2)?>', item(number(10, 2))],
  'boolean[]': ['array<boolean?>', item(fc.constantFrom('t', 'f'))],
  'double precision[]': ['array<float64?>', item(float)],
  'timestamptz[]': ['array<timestamp?>', item(dateTime.filter((t) => !t.startsWith('0001-01-01')))],
  'timestamp[]': ['array<timestamp local?>', item(dateTime)],
  'date[]': ['array<date?>', item(date)],
  'bytea[]': ['array<bytes?>', item(hex)],
  // json_populate_recordset, with which this test reads them again, would take a list in it for a dimension.
  'jsonb[]': ['array<any?>', item(json.filter((s) => !s.startsWith('[')))],
  'uuid[]': ['array<uuid?>', item(fc.uuid())],
  'mood[]': ['array<string?>', item(fc.constantFrom('sad', 'very happy'))],
  'price[]': ['array<decimal(8,2)?>', item(number(6, 2))],
  'box[]': ['array<string?>', fc.constant('{(3,4),(1,2);(1,1),(0,0)}')],
};
/** In the order of columns. */
export const names = Object.keys(types);
/** Makes the types of these that are none of the server’s own. */
export const extra = `CREATE TYPE mood AS ENUM ('sad', 'very happy'); CREATE DOMAIN price AS numeric(8,2);
  CREATE DOMAIN deep_price AS price CHECK (VALUE IS NOT NULL OR TRUE); CREATE TYPE pair AS (a int, b text)`;
