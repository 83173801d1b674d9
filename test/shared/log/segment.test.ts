import { crc32, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  batchOfGroups,
  concatBatches,
  gatherBatch,
  type RecordGroup,
  sliceBatch,
} from '../../../shared/connect/batch.ts';
import { batchOf } from '../../../shared/connect/build.ts';
import { decodeBody, encodeBody } from '../../../shared/log/segment.ts';
import { expectRecords, records } from '../../kit/arbitraries.ts';

const anyBatch = records(['t']).map((list) => batchOf(list));

test('a body gives back the records that went into it', async () => {
  await fc.assert(
    fc.asyncProperty(anyBatch, async (batch) => {
      const body = await encodeBody(batch.groups);
      expectRecords(await decodeBody(body, 't', 'test'), batch);
    }),
    { numRuns: 150 },
  );
});

test('the bytes are the same, whether the columns are whole or parts of others', async () => {
  await fc.assert(
    fc.asyncProperty(anyBatch, fc.nat(), fc.nat(), async (batch, a, b) => {
      const [from, to] = [a % (batch.count + 1), b % (batch.count + 1)].sort((x, y) => x - y) as [number, number];
      const rows = Uint32Array.from({ length: batch.count }, (_, i) => i).filter((i) => i % 2 === 0);
      // The rows of what was read lie one behind the other, and are copied at once.
      const whole = await decodeBody(await encodeBody(batch.groups), 't', 'test');
      for (const of of [batch, whole])
        for (const part of [sliceBatch(of, from, to), gatherBatch(of, rows), concatBatches([of, of])]) {
          const read = await decodeBody(await encodeBody(part.groups), 't', 'test');
          expectRecords(read, part);
          expectRecords(await decodeBody(await encodeBody(read.groups), 't', 'test'), part);
        }
    }),
    { numRuns: 60 },
  );
});

test('what all records have in common is there once', async () => {
  await fc.assert(
    fc.asyncProperty(records(['t']), fc.integer({ min: 2, max: 20 }), async ([record], count) => {
      fc.pre(record !== undefined);
      const batch = batchOf(Array.from({ length: count }, () => record!));
      const body = await encodeBody(batch.groups);
      expectRecords(await decodeBody(body, 't', 'test'), batch);
      // So are a source's columns of one text, which lie in its memory once.
      const one = gatherBatch(batchOf([record!]), new Uint32Array(count));
      expectRecords(await decodeBody(await encodeBody(one.groups), 't', 'test'), batch);
    }),
    { numRuns: 100 },
  );
});

test('what is there once counts as if it were there for each record', async () => {
  const lengthsOf = async (groups: readonly RecordGroup[]) => {
    const { bytes, rawLength } = await encodeBody(groups);
    return { length: zstdDecompressSync(bytes).length, rawLength };
  };
  const told = { op: 'r', table: 'orders', pos: 7n, snapshot: true, gtid: null };
  const one = batchOf([{ topic: 't', value: told }]);
  const rows = (count: number) => lengthsOf(gatherBatch(one, new Uint32Array(count)).groups);
  const few = await rows(2);
  const many = await rows(10_002);
  // But for the digits of the count.
  expect(many.length - few.length).toBeLessThanOrEqual(8);
  // Of five texts their lengths, and of one that is null the state of all.
  const perRow = 5 * 4 + 'r'.length + 2 + 'orders'.length + 2 + '7'.length + 'true'.length;
  const state = 1;
  expect(many.rawLength - few.rawLength).toBeGreaterThan(10_000 * (perRow + state) - 64);
  const days = Array.from({ length: 10_000 }, (_, i) => `day ${10_000 + i}`);
  const valueSchema = { type: 'string' } as const;
  const texts = await lengthsOf(batchOf(days.map((value) => ({ topic: 't', value, valueSchema }))).groups);
  expect(texts.rawLength - texts.length).toBe(10_000 * 4);
});

test('the topic is not in the body: it is that of the segment', async () => {
  const { groups } = batchOf([{ topic: 'written', value: 1 }]);
  const [record] = await decodeBody(await encodeBody(groups), 'read', 'test');
  expect(record!.topic).toBe('read');
});

test('a changed or a missing byte is CORRUPT', async () => {
  await fc.assert(
    fc.asyncProperty(anyBatch, fc.nat(), fc.integer({ min: 1, max: 255 }), async (batch, at, change) => {
      const body = await encodeBody(batch.groups);
      // A Buffer's own slice would be the same memory.
      const bytes = Uint8Array.from(body.bytes);
      bytes[at % bytes.length]! ^= change;
      const corrupt = { code: 'CORRUPT' };
      await expect(decodeBody({ ...body, bytes }, 't', 'test')).rejects.toMatchObject(corrupt);
      const short = body.bytes.subarray(0, at % bytes.length);
      await expect(decodeBody({ ...body, bytes: short }, 't', 'test')).rejects.toMatchObject(corrupt);
      await expect(decodeBody({ ...body, rawLength: body.rawLength + 1 }, 't', 'test')).rejects.toMatchObject(corrupt);
    }),
    { numRuns: 50 },
  );
});

test('bytes that no column has are CORRUPT', async () => {
  const body = await encodeBody(batchOf([{ topic: 't', value: 1 }]).groups);
  const bytes = zstdCompressSync(Buffer.concat([zstdDecompressSync(body.bytes), Buffer.alloc(8)]));
  await expect(decodeBody({ ...body, bytes, crc32: crc32(bytes) }, 't', 'test')).rejects.toMatchObject({
    code: 'CORRUPT',
  });
});

test('a body of no group has no record', async () => {
  const read = await decodeBody(await encodeBody([]), 't', 'test');
  expectRecords(read, batchOfGroups([]));
});
