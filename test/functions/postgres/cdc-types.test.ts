import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { postgresCdcSource } from '../../../functions/postgres/cdc-source.ts';
import type { BytesColumn, StructColumn } from '../../../shared/connect/batch.ts';
import { misfit } from '../../../shared/connect/fit.ts';
import { writeJson } from '../../../shared/connect/json.ts';
import {
  describeSchema,
  type Schema,
  type Struct,
  type StructSchema,
  type Value,
} from '../../../shared/connect/schema.ts';
import { createRunner } from '../../kit/source-runner.ts';
import { changeOf, useCdc } from './cdc-fixture.ts';
import { extra, names, types } from './type-values.ts';

const { run, all, capture } = useCdc();

/** What jsonb_populate_recordset makes the same value of. */
const populatable = (value: Value): Value => {
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString('hex')}`;
  return Array.isArray(value) ? value.map(populatable) : value;
};

describe('values', () => {
  test('of every type come as their canonical type, and are the same when PostgreSQL reads them again', async () => {
    await run(extra);
    const columns = names.map((type, i) => `c${i} ${type}`).join(', ');
    await run(
      `CREATE TABLE t (id int PRIMARY KEY, ${columns}); ALTER TABLE t REPLICA IDENTITY FULL; CREATE TABLE copy (LIKE t)`,
    );
    const { withTask, pollOnce } = await capture(['t']);
    const rows = fc.sample(fc.tuple(...names.map((type) => fc.option(types[type]![1], { freq: 12 }))), 300);
    for (const [id, row] of rows.entries())
      await run(`INSERT INTO t VALUES (${id}, ${row.map((_, i) => `$${i + 1}`).join(', ')})`, row);

    const { batch, rejected } = await withTask((task) => pollOnce(task, new Map(), { maxBytes: 1e9 }));
    expect(rejected ?? []).toEqual([]);
    const schema = batch.groups[0]!.value.schema as StructSchema;
    const after = schema.fields[1]!.schema as StructSchema;
    const told = after.fields
      .slice(1)
      .map(({ schema }, i) => [names[i], describeSchema({ ...schema, optional: false } as Schema)]);
    expect(told).toEqual(names.map((type) => [type, types[type]![0]]));
    const records = [...batch];
    for (const { value } of records) expect(misfit(schema, value, '')).toBeUndefined();

    const populated = records.map(({ value }) => {
      const row = changeOf({ key: null, value }).after as Struct;
      return Object.fromEntries(Object.entries(row).map(([name, one]) => [name, populatable(one)]));
    });
    await run('INSERT INTO copy SELECT * FROM json_populate_recordset(NULL::t, $1)', [writeJson(populated)]);
    for (const [i, type] of names.entries()) {
      // White space between the tokens of json is this test's own loss.
      const column = type === 'json' ? `c${i}::jsonb::text` : `c${i}::text`;
      const different = await all(`SELECT id, ${column} FROM t EXCEPT SELECT id, ${column} FROM copy`);
      expect(different, type).toEqual([]);
    }

    // The rows read from the table are those that were told, and of the same schemas.
    const { config } = await capture(['t'], { snapshotMode: 'initial' });
    const reader = createRunner({ source: postgresCdcSource, config: config as never, expected: [] } as never);
    const read = await reader.withTask(async (task) => {
      const offsets = new Map();
      for (;;) {
        const poll = await reader.pollOnce(task, offsets, { maxBytes: 1e9 });
        expect(poll.rejected ?? []).toEqual([]);
        if (poll.batch.count > 0)
          return {
            schema: poll.batch.groups[0]!.value.schema,
            key: poll.batch.groups[0]!.key,
            records: [...poll.batch],
          };
        reader.advance(offsets, poll.offsets);
      }
    });
    expect(read.schema).toEqual(schema);
    expect(read.key!.schema).toEqual(batch.groups[0]!.key!.schema);
    const rowOf = ({ value }: { value: unknown }) => (value as { after: Struct }).after;
    expect(read.records.map(rowOf)).toEqual(records.map(rowOf));
    expect(read.records.map(({ key }) => key)).toEqual(records.map(({ key }) => key));
  });

  test.each([
    ['numeric', 'NaN', /amount: NaN: a decimal has digits only/],
    ['numeric', '-Infinity', /a decimal has digits only/],
    ['date', 'infinity', /no place in the calendar/],
    ['date', '0044-03-15 BC', /no place in the calendar/],
    ['timestamp', '-infinity', /no place in the calendar/],
    ['timestamptz', '0044-03-15 12:00 BC', /no place in the calendar/],
    ['integer[]', '{{1,2},{3,4}}', /no list/],
    ['integer[]', '[0:1]={1,2}', /no list/],
    ['date[]', '{infinity}', /no place in the calendar/],
  ])('a %s of %s is refused aloud, and gets away again', async (type, value, message) => {
    await run(`CREATE TABLE t (id int PRIMARY KEY, amount ${type}); ALTER TABLE t REPLICA IDENTITY FULL`);
    const { withTask, pollOnce } = await capture(['t']);
    await run('INSERT INTO t VALUES (1, NULL), (2, $1)'.replace('$1', `'${value}'`));
    await run('UPDATE t SET amount = NULL WHERE id = 2; DELETE FROM t');
    const { batch, rejected } = await withTask((task) => pollOnce(task, new Map()));
    expect(rejected).toMatchObject([
      { index: 1, error: { code: 'RECORD_REJECTED', message: expect.stringMatching(message) } },
    ]);
    expect([...batch].map(changeOf)).toEqual([
      { key: { id: 1 }, op: 'c', before: null, after: { id: 1, amount: null } },
      { key: { id: 2 }, op: 'u', before: { id: 2 }, after: { id: 2, amount: null } },
      { key: { id: 1 }, op: 'd', before: { id: 1, amount: null }, after: null },
      { key: { id: 1 }, op: 'tombstone' },
      { key: { id: 2 }, op: 'd', before: { id: 2, amount: null }, after: null },
      { key: { id: 2 }, op: 'tombstone' },
    ]);
  });

  test('settings of the role change no value', async () => {
    await run(`CREATE TABLE t (id int PRIMARY KEY, at timestamptz, i interval, b bytea, f float4);
      ALTER ROLE postgres SET TimeZone = 'Asia/Kolkata'; ALTER ROLE postgres SET DateStyle = 'German, DMY';
      ALTER ROLE postgres SET IntervalStyle = 'sql_standard'; ALTER ROLE postgres SET bytea_output = 'escape';
      ALTER ROLE postgres SET extra_float_digits = -5`);
    try {
      const { withTask, readAll } = await capture(['t']);
      await run(`INSERT INTO t VALUES (1, '2024-02-29 23:59:59.5+00', '1 day 02:00', '\\x00ff', 1.17549435e-38)`);
      const { records } = await withTask((task) => readAll(task));
      expect(changeOf(records[0]!).after).toEqual({
        id: 1,
        at: '2024-02-29T23:59:59.5Z',
        i: 'P1DT2H',
        b: new Uint8Array([0, 255]),
        f: 1.1754944e-38,
      });
    } finally {
      await run('ALTER ROLE postgres RESET ALL');
    }
  });

  test('json has no line end, as a value of JSON lines needs it', async () => {
    await run('CREATE TABLE t (id int PRIMARY KEY, j json)');
    const { withTask, pollOnce } = await capture(['t']);
    await run(`INSERT INTO t VALUES (1, E'{\\n"a":\\t"\\\\n"\\r}')`);
    const { batch } = await withTask((task) => pollOnce(task, new Map()));
    const { columns } = batch.groups[0]!.value.columns[1] as StructColumn;
    const { data, starts, ends } = columns[1] as BytesColumn;
    expect(Buffer.from(data).toString('utf8', starts[0], ends[0])).toBe('{ "a": "\\n" }');
  });

  test('a timestamp that is read in two polls from the same memory', async () => {
    await run('CREATE TABLE t (at timestamptz PRIMARY KEY, l timestamp, j json); ALTER TABLE t REPLICA IDENTITY FULL');
    const { withTask, readAll } = await capture(['t'], { tombstonesOnDelete: true });
    await run(`INSERT INTO t VALUES ('2024-02-29 23:59:59+00', '2024-02-29 01:02:03', E'{\\n}');
      UPDATE t SET at = '2025-01-01 00:00:00+00'; DELETE FROM t`);
    const whole = await withTask((task) => readAll(task));
    const single = await withTask((task) => readAll(task, new Map(), { maxRecords: 1 }));
    expect(single.records).toEqual(whole.records);
    expect(whole.records[0]).toMatchObject({
      key: { at: '2024-02-29T23:59:59Z' },
      value: { after: { l: '2024-02-29T01:02:03', j: {} } },
    });
  });
});
