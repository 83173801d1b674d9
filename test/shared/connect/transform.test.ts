import fc from 'fast-check';
import { expect, test } from 'vitest';
import { batchOf, type RecordInput } from '../../../shared/connect/build.ts';
import type { ConnectRecord } from '../../../shared/connect/record.ts';
import type { Schema } from '../../../shared/connect/schema.ts';
import { applyChain, recordTransform, type Stage, type Transform } from '../../../shared/connect/transform.ts';
import { expectRecords, records } from '../../kit/arbitraries.ts';

/** What a stage does with a record: parts that it becomes, of which some do not fit their schema, or an error. */
type Action = 'throw' | readonly ('good' | 'bad')[];

const action: fc.Arbitrary<Action> = fc.oneof(
  fc.constant<Action>('throw'),
  fc.array(fc.constantFrom('good' as const, 'good' as const, 'bad' as const), { maxLength: 3 }),
);
/** Per stage: what becomes of a record, by the number of its value. */
const plan = fc.array(fc.array(action, { minLength: 7, maxLength: 7 }), { maxLength: 4 });

const int8: Schema = { type: 'int8' };
const numberOf = ({ value }: { value: unknown }) => value as number;
const stages: readonly Stage[] = ['KEY_CONVERTER', 'VALUE_CONVERTER', 'TRANSFORMATION', 'TRANSFORMATION'];
const partValue = (value: number, part: number) => (value * 3 + part + 1) % 100;

const transformOf = (actions: readonly Action[], stage: number): Transform =>
  recordTransform(
    `stage ${stage}`,
    (record) => {
      const value = numberOf(record);
      const what = actions[value % 7]!;
      if (what === 'throw') throw new Error(`no ${value}`);
      const parts = what.map(
        (part, i): RecordInput => ({
          ...record,
          value: part === 'good' ? partValue(value, i) : 1_000,
          valueSchema: int8,
        }),
      );
      return parts.length === 0 ? null : parts.length === 1 ? parts[0]! : parts;
    },
    stages[stage],
  );

interface Part {
  readonly value: number;
  readonly origin: number;
}

/** The same by hand, one record at a time. */
const byHand = (chain: readonly (readonly Action[])[], count: number) => {
  let parts: Part[] = Array.from({ length: count }, (_, i) => ({ value: i, origin: i }));
  const rejected: { index: number; stage: Stage }[] = [];
  for (const [stage, actions] of chain.entries())
    parts = parts.flatMap(({ value, origin }) => {
      const what = actions[value % 7]!;
      if (what !== 'throw' && !what.includes('bad'))
        return what.map((_, i) => ({ value: partValue(value, i), origin }));
      rejected.push({ index: origin, stage: stages[stage]! });
      return [];
    });
  return { parts, rejected };
};

test('every output and every rejection leads back to its input, through filters and explosions', () => {
  fc.assert(
    fc.property(plan, fc.nat({ max: 9 }), (chain, count) => {
      const batch = batchOf(Array.from({ length: count }, (_, i) => ({ topic: 't', value: i, valueSchema: int8 })));
      const result = applyChain(chain.map(transformOf), batch);
      const expected = byHand(chain, count);
      const origins = result.origin ?? Uint32Array.from({ length: result.batch.count }, (_, i) => i);
      const parts = Array.from(result.batch, (record, i) => ({ value: numberOf(record), origin: origins[i]! }));
      expect(parts).toEqual(expected.parts);
      expect([...origins]).toEqual([...origins].sort((a, b) => a - b));
      expect(result.rejected.map(({ index, stage }) => ({ index, stage }))).toEqual(expected.rejected);
      for (const { error } of result.rejected) expect(error).toMatchObject({ code: 'TRANSFORM_FAILED', blame: 'row' });
    }),
    { numRuns: 500 },
  );
});

test('a chain of nothing gives the batch itself', () => {
  const batch = batchOf([{ topic: 't', value: 1 }]);
  expect(applyChain([], batch)).toEqual({ batch, rejected: [] });
});

test('a transform that hands on its records changes nothing', () => {
  const same = recordTransform('same', (record: ConnectRecord) => record);
  fc.assert(
    fc.property(records(), (input) => {
      const batch = batchOf(input);
      expectRecords(applyChain([same, same], batch).batch, batch);
    }),
  );
});

test('the message names the transform and keeps the cause', () => {
  const cause = new Error('no field id');
  const fails = recordTransform('mask', () => {
    throw cause;
  });
  const { error } = applyChain([fails], batchOf([{ topic: 't', value: 1 }])).rejected[0]!;
  expect(error.message).toBe('transform mask: no field id');
  expect(error.cause).toBe(cause);
});

test('what a transform itself throws ends the whole batch', () => {
  const broken: Transform = {
    name: 'broken',
    stage: 'TRANSFORMATION',
    apply() {
      throw new Error('out of memory');
    },
  };
  expect(() => applyChain([broken], batchOf([{ topic: 't', value: 1 }]))).toThrow('out of memory');
});
