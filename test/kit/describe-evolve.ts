import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { controlRecord } from '../../shared/connect/control.ts';
import type { Schema, Value } from '../../shared/connect/schema.ts';
import { decimals, int, printed } from './canonical-values.ts';
import { keyed, putRecords } from './put-records.ts';
import type { SqlSink } from './sql-sink.ts';

const decimal = (precision: number, scale: number): Schema => ({ type: 'decimal', precision, scale, optional: true });
const of = (type: 'int8' | 'int16' | 'int32' | 'int64' | 'float64' | 'string' | 'time' | 'bytes'): Schema => ({
  type,
  optional: true,
});

interface Step {
  readonly schema: Schema;
  readonly value: Value;
}

const longest = 9223372036854775807n;

/** Exact numbers of any type, within what a decimal of both systems holds together with the others. */
const exact: fc.Arbitrary<Step> = fc.oneof(
  ...([8, 16, 32] as const).map((bits) => int(bits).map((value): Step => ({ schema: of(`int${bits}`), value }))),
  fc.bigInt({ min: -(2n ** 63n), max: longest }).map((value): Step => ({ schema: of('int64'), value })),
  fc
    .tuple(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 0, max: 9 }))
    .chain(([whole, scale]) =>
      decimals(whole, scale).map((value): Step => ({ schema: decimal(whole + scale, scale), value })),
    ),
);

/** A number without zeros that say nothing. */
const plain = (value: Value | undefined): string =>
  printed(String(value))
    .replace(/^(-?)0+(?=\d)/, '$1')
    .replace(/^-0$/, '0');

/** How the columns of a sink for tables follow the types of its records. `text` makes an expression one of text. */
export const describeEvolve = (
  name: string,
  { withSink, run, all }: Pick<SqlSink, 'withSink' | 'run' | 'all'>,
  text: (expression: string) => string,
): void => {
  const record = ({ schema, value }: Step, i: number) => keyed(i, { n: value }, { n: schema });
  const put = (evolve: string, steps: readonly Step[], config = {}) =>
    withSink({ evolve, ...config }, async (task) => {
      const rejected = [];
      for (const [i, step] of steps.entries()) rejected.push(...(await putRecords(task, [record(step, i)])).rejected);
      return rejected;
    });
  const told = async () => (await all(`SELECT ${text('n')} FROM t ORDER BY id`)).map(([n]) => n);

  describe(`${name}: a field that gets another type`, () => {
    test.each<readonly [string, Step[], string[]]>([
      [
        'integers',
        [
          { schema: of('int16'), value: 1 },
          { schema: of('int64'), value: longest },
        ],
        ['1', String(longest)],
      ],
      [
        'an integer that becomes a decimal',
        [
          { schema: of('int32'), value: -2147483648 },
          { schema: decimal(12, 4), value: '12345678.1234' },
        ],
        ['-2147483648.0000', '12345678.1234'],
      ],
      [
        'a decimal with more digits, and an integer with more than it has',
        [
          { schema: decimal(5, 2), value: '999.99' },
          { schema: decimal(6, 4), value: '12.3456' },
          { schema: of('int64'), value: longest },
        ],
        ['999.9900', '12.3456', `${longest}.0000`],
      ],
      [
        'an integer that gets a floating point',
        [
          { schema: of('int32'), value: 2147483647 },
          { schema: of('float64'), value: 0.5 },
        ],
        ['2147483647', '0.5'],
      ],
    ])('widen-only: %s', async (_, steps, expected) => {
      expect(await put('widen-only', steps)).toEqual([]);
      expect(await told()).toEqual(expected);
      // What is narrower changes nothing.
      expect(await put('widen-only', steps.slice(0, 1))).toEqual([]);
      expect(await told()).toEqual(expected);
    });

    test('widen-only: exact numbers of whatever types, one after the other, stay what they are', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(exact, { minLength: 2, maxLength: 5 }), async (steps) => {
          await run('DROP TABLE IF EXISTS t');
          expect(await put('widen-only', steps)).toEqual([]);
          expect((await told()).map(plain)).toEqual(steps.map(({ value }) => plain(value)));
        }),
        { numRuns: 25 },
      );
    });

    test('a text is of another kind: it stops the task, or with evolve becomes the column’s', async () => {
      const steps: Step[] = [
        { schema: of('int32'), value: 1 },
        { schema: of('string'), value: 'two' },
      ];
      const back: Step[] = [{ schema: of('int32'), value: 10 }];
      for (const evolve of ['add', 'widen-only'])
        await expect(put(evolve, steps)).rejects.toMatchObject({
          code: 'CONFIG_INVALID',
          message: expect.stringMatching(/records do not fit table .*: column .* is int\w*(\(11\))?, .*ALTER TABLE/),
        });
      expect(await put('evolve', [...steps, { schema: of('time'), value: '12:00:00' }])).toEqual([]);
      expect(await told()).toEqual(['1', 'two', '12:00:00']);
      expect(await put('evolve', back)).toEqual([]);
      expect(await told()).toEqual(['10', 'two', '12:00:00']);
    });

    test('what no text says stops the task also with evolve', async () => {
      await expect(
        put('evolve', [
          { schema: of('int32'), value: 1 },
          { schema: of('bytes'), value: Buffer.from('x') },
        ]),
      ).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    });

    test('what else is said of a column stays', async () => {
      await run('CREATE TABLE t (id integer PRIMARY KEY, n smallint DEFAULT 7 NOT NULL)');
      expect(await put('widen-only', [{ schema: of('int32'), value: 70_000 }])).toEqual([]);
      await run('INSERT INTO t (id) VALUES (8)');
      expect(await told()).toEqual(['70000', '7']);
      await expect(run('INSERT INTO t (id, n) VALUES (9, NULL)')).rejects.toThrow(/null/i);
    });

    test('add leaves a narrow column as it is, and what does not fit it is a row’s error', async () => {
      const steps: Step[] = [
        { schema: of('int16'), value: 1 },
        { schema: of('int32'), value: 70_000 },
      ];
      expect(await put('add', steps)).toMatchObject([{ error: { blame: 'row' } }]);
      expect(await told()).toEqual(['1']);
    });

    test('in the middle of a run that nobody sees yet', async () => {
      const begin = controlRecord('t', { event: 'begin', run: 'r', scope: 'replace' });
      const end = controlRecord('t', { event: 'end', run: 'r', records: 2 });
      const [small, large] = [
        record({ schema: of('int16'), value: 1 }, 1),
        record({ schema: of('int64'), value: longest }, 2),
      ];
      await withSink({ evolve: 'widen-only', visibility: 'batch' }, async (task) => {
        for (const one of [begin, small, large, end]) expect((await putRecords(task, [one])).rejected).toEqual([]);
      });
      expect(await told()).toEqual(['1', String(longest)]);
    });
  });
};
