import { describe, expect, test } from 'vitest';
import { describeEvolve } from '../../kit/describe-evolve.ts';
import { keyed, putRecords } from '../../kit/put-records.ts';
import { useSink } from './sink-fixture.ts';

describe.each(['mariadb', 'mysql'] as const)('%s', (flavour) => {
  const sink = useSink(flavour);

  describeEvolve(flavour, sink, (expression) => `CAST(${expression} AS CHAR)`);

  test.each([
    ["smallint(6) NOT NULL DEFAULT 7 COMMENT 'it''s, a `name`'", 'int32', 70_000, /^int(\(11\))?$/],
    ['float', 'float64', 0.1, /^double$/],
    ['time(3)', 'time', '12:00:00.000001', /^time\(6\)$/],
    ["datetime DEFAULT '2024-01-01 00:00:00'", 'timestamp', '2024-01-01T00:00:00.000001Z', /^datetime\(6\)$/],
  ] as const)('widen-only: %s for %s', async (column, type, value, expected) => {
    const { withSink, run, all } = sink;
    await run(`CREATE TABLE t (id integer PRIMARY KEY, \`N\` ${column}, other int)`);
    await withSink({ evolve: 'widen-only' }, async (task) => {
      expect((await putRecords(task, [keyed(1, { n: value }, { n: type })])).rejected).toEqual([]);
    });
    const [[is, comment]] = (await all(
      "SELECT COLUMN_TYPE, COLUMN_COMMENT FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 't' AND COLUMN_NAME = 'n'",
    )) as [[string, string]];
    expect(is).toMatch(expected);
    expect(comment).toBe(column.includes('COMMENT') ? "it's, a `name`" : '');
  });

  test('numbers without a sign are left as they are, and a key becomes no text', async () => {
    const { withSink, run } = sink;
    await run('CREATE TABLE t (id integer PRIMARY KEY, n tinyint unsigned)');
    await withSink({ evolve: 'evolve' }, async (task) => {
      expect((await putRecords(task, [keyed(1, { n: 300 }, { n: 'int32' })])).rejected).toHaveLength(1);
      const text = { ...keyed(2, { n: 1 }, { n: 'int32' }), key: { id: 'x' } };
      const schemas = { keySchema: { type: 'struct', fields: [{ name: 'id', schema: { type: 'string' } }] } } as const;
      const value = {
        value: { id: 'x', n: 1 },
        valueSchema: {
          type: 'struct',
          fields: [
            { name: 'id', schema: { type: 'string' } },
            { name: 'n', schema: { type: 'int32' } },
          ],
        },
      } as const;
      await expect(putRecords(task, [{ ...text, ...schemas, ...value } as never])).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
      });
    });
  });
});
