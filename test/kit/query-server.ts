import type * as z from 'zod';
import type { SourceConnector } from '../../shared/connect/connector.ts';
import type { QueryOffset } from '../../shared/connect/query-config.ts';
import { createRunner, type SourceFixture } from './source-runner.ts';

/** The modes that read what is new, of a table of `id` and `at`. */
export const ways = [
  { mode: 'incrementing', incrementingColumn: 'id' },
  { mode: 'timestamp', timestampColumns: ['at'] },
  { mode: 'timestamp+incrementing', timestampColumns: ['at'], incrementingColumn: 'id' },
];

/** A server whose tables are read by queries. */
export interface QueryServer {
  readonly source: SourceConnector<z.ZodType, QueryOffset>;
  /** Where it is, and a prefix. */
  address(): object;
  /** Makes an empty schema, in which unqualified names are looked up, and gives its name. */
  schema(): Promise<string>;
  run(sql: string): Promise<unknown>;
  /** Makes the table t of so many rows: `values` are those of row `n`, from 0 on. What is long is stored so. */
  fill(columns: string, key: string, values: string, rows: number): Promise<unknown>;
  rows<Row>(sql: string): Promise<readonly Row[]>;
  /** Another session, in the last schema. */
  session(): Promise<{ run(sql: string): Promise<unknown>; end(): Promise<void> }>;
  /** Types of columns, with microseconds: an instant and a wall clock. */
  readonly instant: string;
  readonly wallClock: string;
  /** The wall clock of a zone that is so many hours ahead of UTC. */
  clockAt(hours: number): string;
  /** Now, cut to seconds and to days, in UTC. */
  readonly thisSecond: string;
  readonly today: string;
  readonly bytes: string;
  /** The longest. */
  readonly text: string;
  hex(digits: string): string;
  quote(name: string): string;
  /** An account that may not read all of the tables t and hidden, and the problems of it. */
  reader(
    schema: string,
  ): Promise<{ readonly config: object; readonly grants: readonly unknown[]; end(): Promise<unknown> }>;
  /** A login that the server refuses. */
  refused(): object;
  /** A type, a value of it that no record can have, and why. */
  readonly badValue: readonly [type: string, value: string, problem: RegExp];
  /** Text that differs in case only is one key. */
  readonly caseless: boolean;
  /** A condition that waits so long that no test ends. */
  readonly waits: string;
  /** Resolves when a statement with it has begun. */
  untilWaits(): Promise<unknown>;
}

/** Reads with a config. */
export const readerOf = (server: QueryServer, config: object, task = { taskId: 0, tasks: 1 }) =>
  createRunner(
    {
      source: server.source,
      config: { ...server.address(), topicPrefix: 'shop', timestampDelayIntervalMs: 0, ...config },
      expected: [],
    } as unknown as SourceFixture,
    task,
  );
