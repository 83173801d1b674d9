import { expect, test } from 'vitest';
import { batchOf, type RecordInput } from '../../../shared/connect/build.ts';
import { type Control, controlRecord, controlsOf, isControl } from '../../../shared/connect/control.ts';
import { rowError } from '../../../shared/connect/errors.ts';
import type { Value } from '../../../shared/connect/schema.ts';
import { applyChain, recordTransform, withoutControl } from '../../../shared/connect/transform.ts';
import { decodeBody, encodeBody } from '../../../shared/log/segment.ts';

const controls: readonly Control[] = [
  { event: 'begin', run: 'r', scope: 'merge' },
  { event: 'end', run: 'r', records: 3 },
  { event: 'end', run: 'r', records: undefined },
  { event: 'commit', transaction: '00000017' },
];
const value = (n: number): RecordInput => ({ topic: 't', value: n });
const [begin, end] = controls.map((one) => controlRecord('t', one)) as [RecordInput, RecordInput];

test('control records are what they were, behind a segment of the log too', async () => {
  const { groups } = batchOf(controls.map((one) => controlRecord('t', one)));
  expect(groups.flatMap(controlsOf)).toEqual(controls.map((one) => expect.objectContaining(one)));
  const read = await decodeBody(await encodeBody(groups), 't', 'test');
  expect(read.groups.every((group) => isControl(group.value.schema) && group.key === undefined)).toBe(true);
  expect(read.groups.flatMap(controlsOf)).toEqual(groups.flatMap(controlsOf));
  expect(isControl(batchOf([value(1)]).groups[0]!.value.schema)).toBe(false);
});

const inWords = (batch: Iterable<{ readonly value: unknown }>) =>
  Array.from(batch, ({ value }) => {
    if (typeof value === 'number') return value;
    const { event, records } = value as { event: string; records?: bigint };
    return event === 'end' ? `end ${records}` : event;
  });

test('transforms are led around them: what they leave out, make and refuse keeps its place', () => {
  const twiceOrNot = recordTransform('twice', (record) => {
    const n = record.value as number;
    if (n === 3) throw rowError('three');
    return n % 2 === 0 ? null : [record, { ...record, value: (n * 10) as Value }];
  });
  const batch = batchOf([value(1), begin, value(2), value(3), value(5), begin, end, value(7)]);
  const chain = applyChain([twiceOrNot], batch);
  expect(inWords(chain.batch)).toEqual([1, 10, 'begin', 5, 50, 'begin', 'end undefined', 7, 70]);
  expect([...chain.origin!]).toEqual([0, 0, 1, 4, 4, 5, 6, 7, 7]);
  expect(chain.rejected.map(({ index }) => index)).toEqual([3]);
  expect(inWords(applyChain([], batch).batch)).toContain('end 3');
});

test('a sink that does not know them gets the rest', () => {
  const chain = applyChain([withoutControl], batchOf([begin, value(1), end, begin, value(2)]));
  expect(inWords(chain.batch)).toEqual([1, 2]);
  expect([...chain.origin!]).toEqual([1, 4]);
  const plain = batchOf([value(1)]);
  expect(applyChain([withoutControl], plain).batch).toBe(plain);
});
