import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { batchOf } from '../../../shared/connect/build.ts';
import { converterTransform } from '../../../shared/connect/converter.ts';
import type { Schema, Value } from '../../../shared/connect/schema.ts';
import { applyChain } from '../../../shared/connect/transform.ts';
import { jsonConverter } from '../../../shared/converters/json.ts';
import { fittingValue, jsonValue, sameValue, schema } from '../../kit/arbitraries.ts';

const encodedText = (data: { schema?: Schema; value: Value }, schemasEnable = true): string =>
  Buffer.from(jsonConverter({ schemasEnable }).encode(data)!).toString();

describe('the JSON converter', () => {
  it('writes Kafka Connect’s envelope', () => {
    const of: Schema = {
      type: 'struct',
      fields: [
        { name: 'id', schema: { type: 'int64' } },
        { name: 'price', schema: { type: 'decimal', precision: 12, scale: 2, optional: true } },
        { name: 'day', schema: { type: 'date' } },
      ],
    };
    // 123.45 is 12345 = 0x3039; the day is Kafka's own example of days since 1970.
    expect(JSON.parse(encodedText({ schema: of, value: { id: 7n, price: '123.45', day: '1970-01-11' } }))).toEqual({
      schema: {
        type: 'struct',
        optional: false,
        fields: [
          { field: 'id', type: 'int64', optional: false },
          {
            field: 'price',
            type: 'bytes',
            optional: true,
            name: 'org.apache.kafka.connect.data.Decimal',
            version: 1,
            parameters: { scale: '2', 'connect.decimal.precision': '12' },
          },
          { field: 'day', type: 'int32', optional: false, name: 'org.apache.kafka.connect.data.Date', version: 1 },
        ],
      },
      payload: { id: 7, price: 'MDk=', day: 10 },
    });
  });

  it('gives back every value of every type, with its schema', () => {
    const converter = jsonConverter({ schemasEnable: true });
    const withValue = schema.chain((of) => fittingValue(of).map((value) => ({ of, value })));
    fc.assert(
      fc.property(withValue, ({ of, value }) => {
        const bytes = converter.encode({ schema: of, value });
        const back = converter.decode(bytes);
        expect(converter.encode(back as { schema: Schema; value: Value })).toEqual(bytes);
        if (isCanonical(of, value)) expect(sameValue(back.value, value)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  it('gives back undeclared values exactly, without schemas', () => {
    const converter = jsonConverter();
    fc.assert(
      fc.property(jsonValue, (value) => {
        expect(sameValue(converter.decode(converter.encode({ value })).value, value)).toBe(true);
      }),
    );
  });

  it('takes null as a tombstone, and no bytes too', () => {
    const converter = jsonConverter();
    expect(converter.encode({ value: null })).toBeNull();
    expect(converter.decode(null)).toEqual({ value: null });
    expect(converter.decode(new Uint8Array())).toEqual({ value: null });
  });

  it.each([
    ['{"a":', 'not JSON'],
    ['{"a":1}', 'set schemas.enable to false'],
    ['{"schema":{"type":"int128"},"payload":1}', 'int128'],
    ['{"schema":{"type":"int32"},"payload":"x"}', 'expected int32'],
    ['{"schema":{"type":"int64"},"payload":1.5}', 'expected int64'],
  ])('refuses %s as a row error', (text, message) => {
    expect(() => jsonConverter({ schemasEnable: true }).decode(Buffer.from(text))).toThrow(
      expect.objectContaining({ blame: 'row', message: expect.stringContaining(message) }),
    );
  });

  it('is a step of a chain that rejects only the record it can’t read', () => {
    const bytes = { type: 'bytes' } as const;
    const batch = batchOf(
      ['{"n":1}', '{"n":', '{"n":3}'].map((text) => ({ topic: 't', value: Buffer.from(text), valueSchema: bytes })),
    );
    const { batch: decoded, rejected } = applyChain([converterTransform(jsonConverter(), 'value', 'decode')], batch);
    expect([...decoded].map(({ value }) => value)).toEqual([{ n: 1 }, { n: 3 }]);
    expect(rejected).toMatchObject([{ index: 1, stage: 'VALUE_CONVERTER', error: { blame: 'row' } }]);
    const back = applyChain([converterTransform(jsonConverter(), 'value', 'encode')], decoded).batch;
    expect([...back].map(({ value }) => Buffer.from(value as Uint8Array).toString())).toEqual(['{"n":1}', '{"n":3}']);
  });
});

/** Whether a value has one text only: 1.5 and 1.50 are one Decimal of scale 2, and 10:00:00.10 is 10:00:00.1. */
const isCanonical = (of: Schema, value: Value): boolean => {
  if (value === null) return true;
  if (of.type === 'decimal' || of.type === 'time') return false;
  if (of.type === 'array') return (value as readonly Value[]).every((item) => isCanonical(of.items, item));
  if (of.type === 'map') return Object.values(value).every((item) => isCanonical(of.values, item));
  if (of.type === 'struct') {
    const struct = value as Record<string, Value>;
    return of.fields.every(
      ({ name, schema: inner }) => !Object.hasOwn(struct, name) || isCanonical(inner, struct[name]!),
    );
  }
  return true;
};
