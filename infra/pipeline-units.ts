import { Duration, Size } from 'aws-cdk-lib/core';

const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Of the form that the schema has checked. */
export const parseDuration = (text: string): Duration => {
  const [, count, unit] = /^(\d+)(ms|s|m|h|d)$/.exec(text)!;
  return Duration.millis(Number(count) * unitMs[unit as keyof typeof unitMs]);
};

const unitBytes = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };

/** Of the form that the schema has checked. */
export const parseSize = (text: string): Size => {
  const [, count, unit] = /^(\d+)(B|KiB|MiB|GiB|TiB)$/.exec(text)!;
  return Size.bytes(Number(count) * unitBytes[unit as keyof typeof unitBytes]);
};
