import type * as z from 'zod';
import type { SourceConnector } from '../../shared/connect/connector.ts';
import type { QueryOffset } from '../../shared/connect/query-config.ts';
import { createRunner, type SourceFixture } from './source-runner.ts';

/** A server whose tables are read by queries. */
export interface QueryServer {
  readonly source: SourceConnector<z.ZodType, QueryOffset>;
  /** Where it is, and a prefix. */
  address(): object;
  /** Makes an empty schema, in which unqualified names are looked up, and gives its name. */
  schema(): Promise<string>;
  run(sql: string): Promise<unknown>;
  /** Another session, in the last schema. */
  session(): Promise<{ run(sql: string): Promise<unknown>; end(): Promise<void> }>;
  /** Types of columns, with microseconds: an instant and a wall clock. */
  readonly instant: string;
  readonly wallClock: string;
  /** The wall clock of a zone that is so many hours ahead of UTC. */
  clockAt(hours: number): string;
  /** A condition that waits so long that no test ends. */
  readonly waits: string;
}

/** Reads with a config. */
export const readerOf = (server: QueryServer, config: object) =>
  createRunner({
    source: server.source,
    config: { ...server.address(), topicPrefix: 'shop', timestampDelayIntervalMs: 0, ...config },
    expected: [],
  } as unknown as SourceFixture);
