import fc from 'fast-check';
import { expect, test } from 'vitest';
import { columnTypeOf } from '../../../functions/mysql/column-type.ts';
import { createPacketRows } from '../../../functions/mysql/packet-rows.ts';
import { batchOfGroups } from '../../../shared/connect/batch.ts';
import type { StructSchema } from '../../../shared/connect/schema.ts';

const types = { small: 'int', large: 'bigint', text: 'text', at: 'timestamp(6)', local: 'datetime', flag: 'bit(1)' };
const columns = Object.entries(types).map(([name, type]) => ({ name, type: columnTypeOf(type) }));
const schema: StructSchema = {
  type: 'struct',
  fields: columns.map(({ name, type }) => ({ name, schema: { ...type.schema, optional: true } })),
};

/** A value as the text protocol has it: its length in one, three, four or nine bytes before it. */
const lengthEncoded = (text: string | null | undefined): Buffer => {
  if (text == null) return Buffer.from([0xfb]);
  const bytes = Buffer.from(text);
  const prefix = Buffer.alloc(9);
  if (bytes.length < 0xfb) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const [code, width] = bytes.length < 2 ** 16 ? ([0xfc, 2] as const) : ([0xfd, 3] as const);
  prefix[0] = code;
  prefix.writeUIntLE(bytes.length, 1, width);
  return Buffer.concat([prefix.subarray(0, 1 + width), bytes]);
};

const second = fc
  .date({ min: new Date('1000-01-01T00:00:00Z'), max: new Date('9999-12-31T23:59:59Z'), noInvalidDate: true })
  .map((date) => date.toISOString().slice(0, 19));
const nullable = <T>(values: fc.Arbitrary<T>) => fc.option(values, { freq: 5 });
const row = fc.record({
  small: nullable(fc.integer()),
  large: nullable(
    fc.oneof(
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      fc.bigInt({ min: -(10n ** 15n), max: 10n ** 15n }),
      fc.integer().map(BigInt),
    ),
  ),
  text: nullable(
    fc.oneof(
      fc.string({ unit: 'grapheme' }),
      fc.integer({ min: 1, max: 70_000 }).map((n) => 'ä'.repeat(n)),
    ),
  ),
  at: nullable(second.map((text) => `${text}.123456Z`)),
  local: nullable(second),
  flag: nullable(fc.boolean()),
});

test('any rows are columns of what the packets say', () => {
  fc.assert(
    fc.property(fc.array(row, { maxLength: 40 }), (given) => {
      const rows = createPacketRows(columns, given.length);
      for (const { small, large, text, at, local, flag } of given) {
        const texts = [
          ...[small, large].map((value) => (value === null ? null : String(value))),
          ...[text, at?.replace('T', ' ').replace('Z', ''), local?.replace('T', ' ')],
          flag === null ? null : String.fromCharCode(Number(flag)),
        ];
        // As mysql2 has it: somewhere in a larger buffer.
        const packet = Buffer.concat([Buffer.from('before'), ...texts.map(lengthEncoded), Buffer.from('behind')]);
        rows.add(packet, 6, packet.length - 6);
      }
      const group = { topic: 't', count: rows.count, value: { schema, columns: rows.columns() } };
      expect([...batchOfGroups([group])].map(({ value }) => value)).toEqual(given);
      expect(given.map((_, i) => rows.text(i, 1))).toEqual(given.map(({ large }) => large?.toString() ?? null));
    }),
    { numRuns: 500 },
  );
});
