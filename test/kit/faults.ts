import type { SinkTask, SourceTask } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { ObjectStore } from '../../shared/log/objects.ts';
import type { Table } from '../../shared/state/table.ts';

/**
 * What goes wrong at one operation:
 * - `crash before`, `crash after`: the process is gone; no later operation of it happens
 * - `lost answer`: the operation happened, its caller is told that the system did not answer
 * - `hang`: the process stops in the middle and is killed at its timeout, without running another line
 * - `duplicate`: a second trigger runs the same task at this moment
 * - `zombie`: the process sleeps past its lease, others do its work, then it goes on
 */
export const faults = ['crash before', 'crash after', 'lost answer', 'hang', 'duplicate', 'zombie'] as const;
export type Fault = (typeof faults)[number];

/** One process: every operation of every store, source and sink goes through `op`. */
export interface Process {
  op<T>(name: string, call: () => Promise<T>): Promise<T>;
}

export class Crash extends Error {}

/** Counts operations over all runs, and lets one of them go wrong. */
export interface FaultPlan {
  readonly names: string[];
  /** A process for one run. */
  process(): Process & { readonly stopped: Promise<'hung' | 'asleep'> };
  /** Lets a zombie go on. */
  wakeUp(): void;
  readonly fired: () => boolean;
}

export interface FaultPlanOptions {
  /** The index of the operation; none: nothing goes wrong. */
  readonly at?: number;
  readonly fault?: Fault;
  /** Runs the task once more, to its end. */
  readonly duplicate?: () => Promise<void>;
}

export const faultPlan = ({ at, fault, duplicate }: FaultPlanOptions = {}): FaultPlan => {
  const names: string[] = [];
  let fired = false;
  const sleep = Promise.withResolvers<void>();
  const process = () => {
    let dead = false;
    const stopped = Promise.withResolvers<'hung' | 'asleep'>();
    const op = async <T>(name: string, call: () => Promise<T>): Promise<T> => {
      if (dead) throw new Crash(`${name} after the crash`);
      const index = names.push(name) - 1;
      if (fired || index !== at) return call();
      fired = true;
      switch (fault) {
        case 'crash before':
          dead = true;
          throw new Crash(name);
        case 'crash after':
          await call();
          dead = true;
          throw new Crash(name);
        case 'lost answer':
          await call();
          throw new ConnectError('UNAVAILABLE', `no answer to ${name}`, { retriable: true });
        case 'hang':
          stopped.resolve('hung');
          return new Promise<never>(() => {});
        case 'duplicate':
          await duplicate?.();
          return call();
        case 'zombie':
          stopped.resolve('asleep');
          await sleep.promise;
          return call();
        default:
          return call();
      }
    };
    return { op, stopped: stopped.promise };
  };
  return { names, process, wakeUp: sleep.resolve, fired: () => fired };
};

export const faultyTable = (table: Table, { op }: Process): Table => ({
  get: (key) => op(`get ${key.sk}`, () => table.get(key)),
  getMany: (keys) => op('getMany', () => table.getMany(keys)),
  query: (pk, query) => op(`query ${pk}`, () => table.query(pk, query)),
  write: (writes) => op(`write ${writes.length}`, () => table.write(writes)),
  names: (kind) => op(`names ${kind}`, () => table.names(kind)),
});

export const faultyObjects = (objects: ObjectStore, { op }: Process): ObjectStore => ({
  put: (name, bytes) => op('object put', () => objects.put(name, bytes)),
  get: (name, start, length) => op('object get', () => objects.get(name, start, length)),
});

export const faultySource = <O>(source: SourceTask<O>, { op }: Process): SourceTask<O> => ({
  poll: (offsets, budget) => op('poll', () => source.poll(offsets, budget)),
  ...(source.commit === undefined
    ? {}
    : { commit: (positions) => op('source commit', () => source.commit!(positions)) }),
  ...(source.more === undefined ? {} : { more: (offsets) => op('more', () => source.more!(offsets)) }),
  close: () => source.close(),
});

export const faultySink = (sink: SinkTask, { op }: Process): SinkTask => ({
  put: (batch, context) => op('put', () => sink.put(batch, context)),
  ...(sink.take === undefined ? {} : { take: (batch) => sink.take!(batch) }),
  ...(sink.offsets === undefined ? {} : { offsets: () => op('sink offsets', () => sink.offsets!()) }),
  ...(sink.reset === undefined ? {} : { reset: (id, offsets) => op('sink reset', () => sink.reset!(id, offsets)) }),
  ...(sink.promote === undefined ? {} : { promote: (prepared) => op('promote', () => sink.promote!(prepared)) }),
  close: () => sink.close(),
});
