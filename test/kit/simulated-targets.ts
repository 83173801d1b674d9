import { expect } from 'vitest';
import type { Partition, SinkTask } from '../../shared/connect/connector.ts';
import type { Process } from './faults.ts';
import { keyedDestination, owningDestination, type Row, stagedDestination } from './memory-connectors.ts';

export const destinations = ['owning', 'keyed', 'staged'] as const;
export type Destination = (typeof destinations)[number];

/** By key, the numbers of its records in order. */
export type Keys = Readonly<Record<string, readonly number[]>>;

export const byKey = (rows: readonly Row[]): Keys =>
  Object.fromEntries(
    Object.entries(Object.groupBy(rows, ({ key }) => key)).map(([key, all]) => [key, all!.map(({ n }) => n)]),
  );

export type Place = { readonly partition: Partition; readonly offset: unknown };

/** What may be missing or come again: a reader that came later begins later; each reset begins again, for each key. */
export interface Allowed {
  readonly resets: number;
  /** By key, how many there were when the reader came: it begins there at the latest. */
  readonly since?: Pick<ReadonlyMap<string, number>, 'get'> | undefined;
}

export interface Target {
  sink(process: Process): SinkTask;
  /** Present where the destination owns its offsets. */
  stored?(): Promise<readonly Place[]>;
  check(name: string, expected: Keys, allowed: Allowed): void;
}

export const makeTarget = (destination: Destination): Target => {
  switch (destination) {
    case 'owning': {
      const { rows, sink } = owningDestination();
      return { sink, stored: () => sink().offsets!(), check: checkSequences(() => rows) };
    }
    case 'staged': {
      const { rows, sink } = stagedDestination();
      return { sink, check: checkSequences(rows) };
    }
    case 'keyed': {
      const { last, sink } = keyedDestination();
      const lastOf = (keys: Keys) => Object.fromEntries(Object.entries(keys).map(([key, ns]) => [key, ns.at(-1)]));
      return { sink, check: (name, expected) => expect(Object.fromEntries(last), name).toEqual(lastOf(expected)) };
    }
  }
};

/** Nothing lost, each key in order, and nothing twice but what a reset brought again. */
const checkSequences =
  (rows: () => readonly Row[]): Target['check'] =>
  (name, expected, { resets, since }) => {
    const received = byKey(rows());
    expect(
      Object.keys(received).filter((key) => expected[key] === undefined),
      name,
    ).toEqual([]);
    for (const [key, all] of Object.entries(expected)) {
      const ns = received[key] ?? [];
      if (resets === 0 && since === undefined) expect(ns, `${name}, ${key}`).toEqual(all);
      const begun = since?.get(key) ?? 0;
      if (ns.length === 0 && begun >= all.length) continue;
      expect(ns[0], `${name}, ${key}: where it begins`).toBeLessThanOrEqual(begun);
      expect(ns.at(-1), `${name}, ${key}: where it ends`).toBe(all.at(-1));
      let again = 0;
      for (const [i, n] of ns.entries()) {
        if (i === 0 || n === ns[i - 1]! + 1) continue;
        expect(n, `${name}, ${key}: a gap in ${ns}`).toBeLessThanOrEqual(ns[i - 1]!);
        again++;
      }
      expect(again, `${name}, ${key}: how often it began again, ${ns}`).toBeLessThanOrEqual(resets);
    }
  };
