import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { RecordInput } from '../../shared/connect/build.ts';
import { writeJson } from '../../shared/connect/json.ts';
import { describeSchema, type Schema, type Value } from '../../shared/connect/schema.ts';
import { anyText, clock, date, decimals, int } from '../kit/canonical-values.ts';
import { putRecords } from '../kit/put-records.ts';
import { seeded } from '../kit/seed.ts';
import { documentWith } from './document.ts';
import { normalForm } from './normal-form.ts';
import { type System, useSystems } from './systems.ts';

const systems = useSystems();

/** Of each canonical type any values, and besides them always the edges. */
interface Canonical {
  readonly schema: Schema;
  readonly values: fc.Arbitrary<Value>;
  readonly edges: readonly Value[];
}

const text = anyText.filter((s) => s.length < 40);
const whole = (bits: number): Canonical['edges'] => [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0, 1, -1, 200];
const json: Canonical['edges'] = [{ b: 1, a: 'x' }, [1.5, null], 'text', 12345678901234567890n, 0.1, true];

const canonicals: readonly Canonical[] = [
  { schema: { type: 'int8' }, values: int(8), edges: [-128, 127, 0] },
  { schema: { type: 'int16' }, values: int(16), edges: whole(16) },
  { schema: { type: 'int32' }, values: int(32), edges: whole(32) },
  {
    schema: { type: 'int64' },
    values: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    edges: [-(2n ** 63n), 2n ** 63n - 1n, 0n, 2n ** 53n + 1n, 100n],
  },
  {
    schema: { type: 'float32' },
    values: fc.float(),
    edges: [0.1, 1e-45, 3.4028234663852886e38, 16777216, 2.5, Number.NaN].map(Math.fround),
  },
  { schema: { type: 'float64' }, values: fc.double(), edges: [0.1, 5e-324, 1.7976931348623157e308, 2.5, Number.NaN] },
  { schema: { type: 'boolean' }, values: fc.boolean(), edges: [true, false] },
  {
    schema: { type: 'string' },
    values: text,
    edges: [
      '',
      ' ',
      'a',
      'a ',
      'abc   ',
      'x'.repeat(70),
      `x${' '.repeat(70)}`,
      'ä',
      '😀',
      'red',
      'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11',
      '{a0eebc999c0b4ef8bb6d6bb9bd380a11}',
    ],
  },
  {
    schema: { type: 'bytes' },
    values: fc.uint8Array({ maxLength: 20 }),
    edges: [Buffer.alloc(0), Buffer.from('a '), Buffer.alloc(16), Buffer.alloc(300, 1)],
  },
  {
    schema: { type: 'decimal', precision: 10, scale: 2 },
    values: decimals(8, 2),
    edges: ['0', '99999999.99', '-99999999.99', '1.50', '0.01', '1.00'],
  },
  {
    schema: { type: 'decimal' },
    values: decimals(20, 10),
    edges: ['0', '1.5', '-0.000001', '9'.repeat(70), `0.${'1'.repeat(40)}`, '1.00'],
  },
  { schema: { type: 'date' }, values: date, edges: ['0001-01-01', '9999-12-31', '1970-01-01'] },
  { schema: { type: 'time' }, values: clock, edges: ['00:00:00', '23:59:59.999999', '12:00:00.5'] },
  {
    schema: { type: 'timestamp' },
    values: fc.tuple(date, clock).map(([d, t]) => `${d}T${t}Z`),
    edges: ['1970-01-01T00:00:00Z', '2024-02-29T23:59:59.123456Z', '9999-12-31T23:59:59Z', '2024-02-29T00:00:00Z'],
  },
  {
    schema: { type: 'timestamp', local: true },
    values: fc.tuple(date, clock).map(([d, t]) => `${d}T${t}`),
    edges: ['1970-01-01T00:00:00', '2024-02-29T23:59:59.123456', '9999-12-31T23:59:59', '2024-02-29T00:00:00'],
  },
  { schema: { type: 'uuid' }, values: fc.uuid(), edges: ['00000000-0000-0000-0000-000000000000'] },
  { schema: { type: 'any' }, values: fc.constantFrom(...json), edges: json },
  { schema: { type: 'array', items: { type: 'int32' } }, values: fc.array(int(32)), edges: [[], [1, 2]] },
];

const mysqlTypes = [
  ...['tinyint', 'tinyint unsigned', 'smallint', 'mediumint', 'int', 'int unsigned', 'bigint', 'bigint unsigned'],
  ...['decimal(10,0)', 'decimal(10,2)', 'decimal(65,30)', 'float', 'float(7,2)', 'double', 'double(10,2)'],
  ...[
    'bit(1)',
    'bit(64)',
    'boolean',
    'char(36)',
    'varchar(64)',
    'varchar(64) charset latin1',
    'tinytext',
    'text',
    'longtext',
  ],
  ...['binary(16)', 'varbinary(64)', 'tinyblob', 'blob', 'longblob', 'date', 'datetime', 'datetime(6)'],
  ...['timestamp', 'timestamp(6)', 'time', 'time(6)', 'year', 'json', "enum('red','a')", "set('red','a')", 'point'],
];
const types: { readonly [name in System['name']]: readonly string[] } = {
  mysql: mysqlTypes,
  mariadb: [...mysqlTypes, 'uuid', 'inet6'],
  postgres: [
    ...[
      'smallint',
      'integer',
      'bigint',
      'oid',
      'numeric(10,0)',
      'numeric(10,2)',
      'numeric',
      'real',
      'double precision',
      'money',
    ],
    ...[
      'boolean',
      'bit(1)',
      'text',
      'varchar',
      'varchar(64)',
      'char(5)',
      'name',
      '"char"',
      'bytea',
      'date',
      'time',
      'time(0)',
      'timetz',
    ],
    ...[
      'timestamp',
      'timestamp(0)',
      'timestamptz',
      'timestamptz(3)',
      'interval',
      'uuid',
      'json',
      'jsonb',
      'xml',
      'inet',
      'color',
      'positive',
    ],
    ...['integer[]', 'text[]', 'point', 'int4range'],
  ],
};

const title = (schema: Schema) =>
  describeSchema(schema).replace('decimal(10,2)', 'decimal(p,s)').replace('<int32>', ', map, struct');

const families = { mariadb: 'MySQL and MariaDB', mysql: 'MySQL and MariaDB', postgres: 'PostgreSQL' } as const;
/** By family and schema, the columns that take its values. */
const taken = new Map<string, Map<string, Set<string>>>();

test.each(['mariadb', 'mysql', 'postgres'] as const)(
  '%s: a column that is there holds each value as it is, or refuses it',
  async (name) => {
    const system = systems().find((one) => one.name === name)!;
    const { seed } = seeded('types');
    if (name === 'postgres')
      await system.run(
        "CREATE TYPE color AS ENUM ('red', 'a'); CREATE DOMAIN positive AS numeric(10,2) CHECK (value > 0)",
      );
    const columns = types[name].map((type, i) => `v${i} ${type}${type.startsWith('timestamp') ? ' NULL' : ''}`);
    await system.run(`CREATE TABLE e (id int, ${columns.join(', ')})`);
    const takes = await system.takes('e');
    const task = await system.openSink({ mode: 'insert', create: false, evolve: 'fail' });
    const wrong: string[] = [];
    let id = 0;
    for (const { schema, values, edges } of canonicals)
      for (const [i, type] of types[name].entries()) {
        if (!takes(`v${i}`, schema)) continue;
        const cells = [...edges, ...fc.sample(values, { numRuns: 8, seed })].map((value) => ({ id: id++, value }));
        const { rejected } = await putRecords(
          task,
          cells.map((cell) => recordOf(`v${i}`, cell, schema)),
        );
        const refused = new Set(rejected.map(({ index }) => cells[index]!.id));
        const rows = await system.texts(
          `SELECT id, ${system.textOf(`v${i}`, type, schema)} FROM e WHERE id >= ${cells[0]!.id}`,
        );
        const stored = new Map(rows.map(([key, value]) => [key!, value]));
        for (const cell of cells) {
          const [before, now] = [textOf(schema, cell.value), stored.get(String(cell.id))];
          const isRefused = refused.has(cell.id);
          const isSame = typeof now === 'string' && formOf(schema, type, now) === formOf(schema, type, before);
          if (isRefused ? now !== undefined : !isSame)
            wrong.push(`${type} ${title(schema)} ${before} is ${now}${isRefused ? ', and refused' : ''}`);
        }
        // MariaDB's json is a text that takes JSON only.
        if (refused.size < cells.length) note(families[name], title(schema), type);
      }
    await task.close();
    expect(wrong).toEqual([]);
  },
);

/** One uuid can be written in several ways, and the column keeps one. */
const formOf = (schema: Schema, type: string, text: string): string =>
  type === 'uuid' ? text.replace(/[{}-]/g, '').toLowerCase() : normalForm(schema, text);

const note = (family: string, schema: string, type: string) => {
  const ofFamily = taken.get(family) ?? new Map<string, Set<string>>();
  taken.set(family, ofFamily.set(schema, (ofFamily.get(schema) ?? new Set()).add(type)));
};

const recordOf = (column: string, { id, value }: { id: number; value: Value }, schema: Schema): RecordInput => ({
  topic: 'e',
  value: { id, [column]: value },
  valueSchema: {
    type: 'struct',
    fields: [
      { name: 'id', schema: { type: 'int32' } },
      { name: column, schema },
    ],
  },
});

const textOf = (schema: Schema, value: Value): string => {
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  if (schema.type === 'array') return JSON.stringify(value);
  return schema.type === 'any' ? writeJson(value) : String(value);
};

test('the document says what was taken', async () => {
  const tables = Object.fromEntries(
    Array.from(taken, ([family, schemas]) => [
      `into ${family}`,
      [['Sluice', 'columns'], ...Array.from(schemas, ([schema, columns]) => [schema, [...columns].join(', ')])],
    ]),
  );
  await documentWith(tables);
});
