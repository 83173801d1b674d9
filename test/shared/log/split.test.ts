import fc from 'fast-check';
import { expect, test } from 'vitest';
import { batchOfGroups } from '../../../shared/connect/batch.ts';
import { batchOf, type RecordInput } from '../../../shared/connect/build.ts';
import { canonicalJson } from '../../../shared/connect/json.ts';
import type { Struct, Value } from '../../../shared/connect/schema.ts';
import { murmur2, queueOf } from '../../../shared/log/murmur2.ts';
import { splitQueues } from '../../../shared/log/split.ts';
import { expectRecords, jsonValue, records, text } from '../../kit/arbitraries.ts';

test.each([
  // org.apache.kafka.common.utils.UtilsTest
  ['21', -973932308],
  ['foobar', -790332482],
  ['a-little-bit-long-string', -985981536],
  ['a-little-bit-longer-string', -1486304829],
  ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
  ['abc', 479470107],
])("murmur2 of %j is Kafka's", (key, hash) => {
  expect(murmur2(Buffer.from(key))).toBe(hash);
  // Over a part of a larger buffer as well.
  const inside = Buffer.from(`xx${key}yyy`);
  expect(murmur2(inside, 2, inside.length - 3)).toBe(hash);
});

const split = (input: readonly RecordInput[], queues: number, keyless = 0) =>
  splitQueues(
    batchOf(input),
    () => queues,
    () => keyless,
  );
const queueFor = (key: Value, queues = 31, keySchema?: RecordInput['keySchema']) =>
  split([{ topic: 't', key, value: 1, keySchema }], queues)[0]!.queue;

test("a text key goes where Kafka's default partitioner puts it", () => {
  fc.assert(
    fc.property(text, fc.integer({ min: 2, max: 32 }), (key, queues) => {
      const expected = (murmur2(Buffer.from(key)) & 0x7fffffff) % queues;
      expect(queueFor(key, queues)).toBe(expected);
      expect(queueOf(Buffer.from(key), queues)).toBe(expected);
      expect(queueFor(Buffer.from(key), queues, { type: 'bytes' })).toBe(expected);
    }),
  );
});

test('pinned queues: a change moves keys, and so breaks their order', () => {
  const pinned: [Value, number][] = [
    ['abc', 20],
    ['21', 26],
    [21, 26],
    [{ id: 21 }, 30],
    [{ b: 'x', a: 1.5 }, 6],
    [['a', null, true], 4],
  ];
  expect(pinned.map(([key]) => queueFor(key))).toEqual(pinned.map(([, queue]) => queue));
});

test("the order of a key's fields does not matter, nor whether an integer is an int64", () => {
  fc.assert(
    fc.property(fc.dictionary(text, jsonValue, { maxKeys: 5 }), fc.integer(), (key, n) => {
      const turned = Object.fromEntries(Object.entries(key).reverse());
      expect(queueFor(turned as Struct)).toBe(queueFor(key as Struct));
      expect(queueFor(BigInt(n), 31, { type: 'int64' })).toBe(queueFor(n));
    }),
  );
});

test('every record is in one queue, in order; a key is in one queue only', () => {
  fc.assert(
    fc.property(records(), fc.integer({ min: 1, max: 8 }), fc.nat(), (input, queues, sticky) => {
      const keyless = sticky % queues;
      const parts = split(input, queues, keyless);
      const names = parts.map(({ topic, queue }) => `${topic}#${queue}`);
      expect(new Set(names).size).toBe(names.length);
      const homes = new Map<string, number>();
      const numbered = input.map((record, i) => ({ ...record, headers: [{ key: 'i', value: i }] }));
      const positions: number[] = [];
      for (const { topic, queue, groups, count } of split(numbered, queues, keyless)) {
        const batch = batchOfGroups(groups);
        expect(batch.count).toBe(count);
        const at = Array.from(batch, ({ headers }) => Number(headers[0]!.value));
        expect(at).toEqual([...at].sort((a, b) => a - b));
        expectRecords(
          batch,
          at.map((i) => numbered[i]!),
        );
        positions.push(...at);
        for (const { key } of batch) {
          if (key === null) expect(queue).toBe(queues === 1 ? 0 : keyless);
          else {
            const name = `${topic} ${typeof key} ${canonicalJson(key)}`;
            expect(homes.get(name) ?? queue).toBe(queue);
            homes.set(name, queue);
          }
        }
      }
      expect(positions.sort((a, b) => a - b)).toEqual(input.map((_, i) => i));
    }),
  );
});
