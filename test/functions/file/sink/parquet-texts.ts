import { writeJson } from '../../../../shared/connect/json.ts';
import type { Schema, Value } from '../../../../shared/connect/schema.ts';

/** What a canonical value is in a Parquet file, told in one comparable text: as it should be, and as it was read. */
export const expectedText = (schema: Schema, value: Value | undefined): string => {
  if (value === null || value === undefined) return 'null';
  switch (schema.type) {
    case 'float32':
      return numberText(Math.fround(value as number));
    case 'float64':
      return numberText(value as number);
    case 'bytes':
      return Buffer.from(value as Uint8Array).toString('hex');
    case 'time':
    case 'timestamp': {
      const [, whole, fraction = ''] = /^([^.Z]*)(?:\.(\d+))?/.exec(value as string)!;
      return `${whole}.${fraction.padEnd(6, '0')}`;
    }
    case 'decimal':
      return schema.precision === undefined || schema.precision > 38
        ? (value as string)
        : (value as string).replace(/^-(0(?:\.0+)?)$/, '$1');
    case 'any':
    case 'array':
    case 'map':
    case 'struct':
      return writeJson(value);
    default:
      return String(value);
  }
};

/** `value` is the physical value: nothing was converted on the way. */
export const readText = (schema: Schema, value: unknown): string => {
  if (value === null || value === undefined) return 'null';
  switch (schema.type) {
    case 'float32':
    case 'float64':
      return numberText(value as number);
    case 'bytes':
      return Buffer.from(value as Uint8Array).toString('hex');
    case 'date':
      return new Date((value as number) * 86_400_000).toISOString().slice(0, 10);
    case 'time':
      return timeText(value as bigint);
    case 'timestamp': {
      const micros = value as bigint;
      const inDay = ((micros % dayMicros) + dayMicros) % dayMicros;
      const day = new Date(Number((micros - inDay) / 1000n)).toISOString().slice(0, 10);
      return `${day}T${timeText(inDay)}`;
    }
    case 'decimal':
      if (schema.precision === undefined || schema.precision > 38) break;
      return decimalText(unscaledOf(value), schema.scale ?? 0);
  }
  return value instanceof Uint8Array ? Buffer.from(value).toString() : String(value);
};

const dayMicros = 86_400_000_000n;

const numberText = (value: number) => (Object.is(value, -0) ? '-0' : String(value));

const timeText = (micros: bigint): string => {
  const seconds = Number(micros / 1_000_000n);
  const two = (n: number) => String(n).padStart(2, '0');
  const fraction = String(micros % 1_000_000n).padStart(6, '0');
  return `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}.${fraction}`;
};

const unscaledOf = (value: unknown): bigint =>
  value instanceof Uint8Array
    ? BigInt.asIntN(value.length * 8, BigInt(`0x${Buffer.from(value).toString('hex')}`))
    : BigInt(value as number | bigint);

const decimalText = (unscaled: bigint, scale: number): string => {
  const digits = String(unscaled < 0n ? -unscaled : unscaled).padStart(scale + 1, '0');
  const split = digits.length - scale;
  return `${unscaled < 0n ? '-' : ''}${digits.slice(0, split)}${scale === 0 ? '' : `.${digits.slice(split)}`}`;
};
