import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  batchBytes,
  batchOfGroups,
  concatBatches,
  emptyBatch,
  gatherBatch,
  gatherGroup,
  type RecordBatch,
  sliceBatch,
} from '../../../shared/connect/batch.ts';
import { batchOf, type RecordInput } from '../../../shared/connect/build.ts';
import { pollOf } from '../../../shared/connect/connector.ts';
import type { ConnectRecord } from '../../../shared/connect/record.ts';
import type { Schema, Value } from '../../../shared/connect/schema.ts';
import { expectRecords, fittingValue, records, schema } from '../../kit/arbitraries.ts';

const batchAndList: fc.Arbitrary<{ batch: RecordBatch; list: readonly ConnectRecord[] }> = records().map((input) => {
  const batch = batchOf(input);
  return { batch, list: [...batch] };
});
const countOf = ({ groups }: RecordBatch) => groups.reduce((sum, { count }) => sum + count, 0);

test('a batch gives back the records it was made of', () => {
  fc.assert(
    fc.property(records(), (input) => {
      const batch = batchOf(input);
      expect(batch.count).toBe(input.length);
      expect(countOf(batch)).toBe(input.length);
      expectRecords(batch, input);
      // Iterating again gives the same, and made again of what was read it is the same.
      expectRecords(batchOf([...batch]), batch);
    }),
    { numRuns: 200 },
  );
});

test('a value of any schema comes back as it was, as a value, a key and a field', () => {
  const one = schema.chain((of) => fittingValue(of).map((value) => ({ of, value })));
  fc.assert(
    fc.property(one, ({ of, value }) => {
      const struct: Schema = { type: 'struct', fields: [{ name: 'f', schema: of }] };
      const input: RecordInput[] = [
        { topic: 't', key: value, keySchema: of, value: { f: value }, valueSchema: struct },
        { topic: 't', value, valueSchema: of },
      ];
      expectRecords(batchOf(input), input);
    }),
    { numRuns: 300 },
  );
});

test('slices: any part is the records of that part, of slices as well', () => {
  fc.assert(
    fc.property(
      batchAndList,
      fc.integer({ min: -2, max: 30 }),
      fc.integer({ min: -2, max: 30 }),
      ({ batch, list }, from, to) => {
        const part = sliceBatch(batch, from, to);
        const expected = list.slice(Math.max(from, 0), Math.max(to, 0));
        expect(part.count).toBe(expected.length);
        expectRecords(part, expected);
        expectRecords(sliceBatch(part, 1, 3), expected.slice(1, 3));
      },
    ),
  );
});

test('two slices together are the batch, and hold its bytes', () => {
  fc.assert(
    fc.property(batchAndList, fc.nat({ max: 30 }), ({ batch, list }, at) => {
      const parts = [sliceBatch(batch, 0, at), sliceBatch(batch, at, batch.count)];
      const whole = concatBatches(parts);
      expect(whole.count).toBe(batch.count);
      expectRecords(whole, list);
      if (at <= batch.count) expect(parts.reduce((sum, part) => sum + batchBytes(part), 0)).toBe(batchBytes(batch));
      expectRecords(concatBatches([batch, emptyBatch, batch]), [...list, ...list]);
      expect(concatBatches([]).count).toBe(0);
    }),
  );
});

test('gathering picks exactly the records named, and copies no bytes', () => {
  fc.assert(
    fc.property(batchAndList, fc.infiniteStream(fc.boolean()), ({ batch, list }, picks) => {
      const rows = list.map((_, i) => i).filter(() => picks.next().value);
      const picked = gatherBatch(batch, Uint32Array.from(rows));
      expect(picked.count).toBe(rows.length);
      expectRecords(
        picked,
        rows.map((row) => list[row]!),
      );
      const buffers = new Set(batch.groups.flatMap(buffersOf));
      for (const buffer of picked.groups.flatMap(buffersOf)) expect(buffers).toContain(buffer);
    }),
  );
});

const buffersOf = ({ key, value }: RecordBatch['groups'][number]) =>
  [...(key?.columns ?? []), ...value.columns].flatMap((column) => (column.kind === 'bytes' ? [column.data] : []));

test('a group may be gathered in any order, rows twice as well', () => {
  fc.assert(
    fc.property(batchAndList, fc.array(fc.nat(), { maxLength: 9 }), ({ batch }, picks) => {
      for (const group of batch.groups) {
        const list = [...batchOfGroups([group])];
        const rows = picks.map((pick) => pick % group.count);
        const picked = gatherGroup(group, Uint32Array.from(rows));
        expectRecords(
          batchOfGroups([picked]),
          rows.map((row) => list[row]!),
        );
      }
    }),
  );
});

test('a record that does not fit is left out and named, the others stay in order', () => {
  const bad: RecordInput = { topic: 't', value: 'x', valueSchema: { type: 'int8' } };
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          records()
            .filter((list) => list.length > 0)
            .map((list) => list[0]!),
          fc.constant(bad),
        ),
        { maxLength: 9 },
      ),
      (input) => {
        const rejected: number[] = [];
        const batch = batchOf(input, (index, error) => {
          expect(error).toMatchObject({ code: 'RECORD_REJECTED', blame: 'row' });
          rejected.push(index);
        });
        expect(rejected).toEqual(input.flatMap((record, i) => (record === bad ? [i] : [])));
        expectRecords(
          batch,
          input.filter((record) => record !== bad),
        );
        if (rejected.length > 0) expect(() => batchOf(input)).toThrow();
      },
    ),
  );
});

test('a poll of plain records: positions, last offsets, and misfits with the place they had', () => {
  const partition = (name: string) => ({ file: name });
  const make = (file: string, line: number, value: Value) => ({
    topic: 't',
    value,
    valueSchema: { type: 'int8' } as const,
    partition: partition(file),
    offset: { line },
  });
  const poll = pollOf([make('a', 1, 1), make('b', 1, 'bad'), make('a', 2, 2), make('b', 2, 999)], {
    caughtUp: false,
    offsets: [{ partition: partition('c'), offset: { line: 9 } }],
  });
  expect(Array.from(poll.batch, ({ value }) => value)).toEqual([1, 2]);
  expect([0, 1].map((i) => poll.position(i))).toMatchObject([
    { partition: partition('a'), offset: { line: 1 } },
    { partition: partition('a'), offset: { line: 2 } },
  ]);
  expect(poll.rejected).toMatchObject([
    { index: 1, partition: partition('b'), offset: { line: 1 }, topic: 't', error: { blame: 'row' } },
    { index: 2, partition: partition('b'), offset: { line: 2 } },
  ]);
  expect(Buffer.from(poll.rejected![0]!.raw!).toString()).toBe('"bad"');
  expect(poll.offsets).toEqual([
    { partition: partition('a'), offset: { line: 2 } },
    { partition: partition('b'), offset: { line: 2 } },
    { partition: partition('c'), offset: { line: 9 } },
  ]);
});
