import { deflateSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { readRowsEvent, rowsTableOf } from '../../../functions/mysql/rows-event.ts';

const images = Buffer.from('the images of some rows');

/** Behind a byte with its form, the length of what was deflated. */
const compressed = Buffer.concat([Buffer.from([0x82, 0, images.length]), deflateSync(images)]);

/** A packet behind two bytes of another, as the server sends it. */
const packetOf = (type: number, body: readonly (Buffer | readonly number[])[]): Buffer => {
  const header = Buffer.alloc(2 + 20);
  header.writeUInt32LE(1_700_000_000, 3);
  header[7] = type;
  return Buffer.concat([header, ...body.map((part) => Buffer.from(part as Buffer))]);
};

const ids = [7, 0, 0, 0, 0, 1, 0, 0];
const extra = [5, 0, 1, 2, 3];
/** So many columns, in two bitmaps of two bytes for an update. */
const columns = 9;

test.each([
  [0x17, 'c', [], images],
  [0x18, 'u', [], images],
  [0x19, 'd', [], images],
  [0x1e, 'c', extra, images],
  [0x1f, 'u', extra, images],
  [0x20, 'd', extra, images],
  [0xa6, 'c', [], compressed],
  [0xa7, 'u', [], compressed],
  [0xa8, 'd', [], compressed],
  [0xa9, 'c', extra, compressed],
  [0xaa, 'u', extra, compressed],
  [0xab, 'd', extra, compressed],
] as const)('an event of type %i is rows of operation %s', (type, op, more, rows) => {
  const bitmaps = op === 'u' ? [0xff, 1, 0x0f, 0] : [0xff, 1];
  const packet = packetOf(type, [ids, more, [columns], bitmaps, rows]);
  expect(rowsTableOf(packet, 2)).toBe(7 + 2 ** 40);
  const event = readRowsEvent(packet, 2, packet.length);
  expect(event).toMatchObject({ op, timestampMs: 1_700_000_000_000 });
  expect([...event.present]).toEqual([0xff, 1]);
  expect([...event.presentAfter]).toEqual(op === 'u' ? [0x0f, 0] : [0xff, 1]);
  expect(event.data.subarray(event.start, event.end).equals(images)).toBe(true);
});

test('what is compressed in another way is told, and other events are none of rows', () => {
  const packet = packetOf(0xa6, [ids, [columns], [0xff, 1], [0x91, 1], images]);
  expect(() => readRowsEvent(packet, 2, packet.length)).toThrow(/begins with byte 145, which is no known form/);
  const xid = packetOf(0x10, [ids]);
  expect(rowsTableOf(xid, 2)).toBeUndefined();
});
