import pg from 'pg';
import { expect } from 'vitest';
import { postgresCdcSource } from '../../../functions/postgres/cdc-source.ts';
import { type Partition, type Poll, partitionKey, type SourceTask } from '../../../shared/connect/connector.ts';
import { writeJson } from '../../../shared/connect/json.ts';
import type { Struct } from '../../../shared/connect/schema.ts';
import { type OffsetMap, offsetsOf, recordsOf } from '../../kit/source-runner.ts';
import { contextOf, useCdc } from './cdc-fixture.ts';

type Row = { readonly [name: string]: unknown };

const newState = () => ({
  offsets: new Map() as OffsetMap,
  rows: new Map<string, Map<string, Row>>(),
  /** Operation and key of each change, in their order. */
  told: [] as string[],
});

/** Tasks of one connector, their offsets, and the rows that their records leave in a sink that commits both at once. */
export const createRuns = (config: Struct, { tasks = 1, isStrict = true, state = newState() } = {}) => {
  const { offsets, rows, told } = state;

  const apply = (table: string, key: string, op: string, row: Row | null) => {
    const all = rows.get(table) ?? new Map<string, Row>();
    rows.set(table, all);
    // A change that its row has already, or one that is missing: told where the order of keys is known.
    if (isStrict && op !== 'tombstone') expect(all.has(key), `${op} ${table} ${key}`).toBe(op === 'u' || op === 'd');
    if (row === null) all.delete(key);
    else all.set(key, { ...all.get(key), ...row });
  };

  const commit = (poll: Poll<unknown>) => {
    for (const { topic, key, value } of recordsOf(poll)) {
      const change = value as { readonly op: string; readonly after: Row | null } | null;
      if (change !== null) told.push(`${change.op} ${Object.values(key as Struct).join()}`);
      if (change !== null) apply(topic, writeJson(key), change.op, change.after);
    }
    for (const { partition, offset } of poll.offsets)
      offsets.set(partitionKey(partition), {
        partition,
        offset: postgresCdcSource.offset.parse(JSON.parse(JSON.stringify(offset))),
      });
  };

  const open = (taskId = 0): Promise<SourceTask<unknown>> =>
    postgresCdcSource.open({ ...contextOf(config), taskId, tasks }) as Promise<SourceTask<unknown>>;

  /** One run: polls until there is nothing to do, or so many times. */
  const run = async ({
    taskId = 0,
    polls = 1000,
    maxRecords = 1000,
    keep = async (_poll: Poll<unknown>) => true,
  } = {}) => {
    const task = await open(taskId);
    try {
      for (let i = 0; i < polls; i++) {
        const poll = await task.poll(offsetsOf(offsets), {
          maxRecords,
          maxBytes: 4 * 1024 * 1024,
          signal: new AbortController().signal,
        });
        expect(poll.rejected ?? []).toEqual([]);
        if (poll.batch.count === 0 && (poll.moved ?? 0) === 0) {
          if (poll.caughtUp) return poll.waits === true ? 'waits' : 'caught up';
          continue;
        }
        // What is polled and not committed comes again.
        if (!(await keep(poll))) return 'cut';
        commit(poll);
        await task.commit?.(poll.offsets as never);
      }
      return 'more';
    } finally {
      await task.close();
    }
  };

  return {
    /** What the next connector of the name goes on with. */
    state,
    offsets,
    told,
    open,
    run,
    set: (partition: Partition, offset: unknown) => void offsets.set(partitionKey(partition), { partition, offset }),
    remove: (partition: Partition) => void offsets.delete(partitionKey(partition)),
    /** What is in the sink of a topic. */
    rows: (topic: string): readonly Row[] => [...(rows.get(topic)?.values() ?? [])],
  };
};

export const initial = { snapshotMode: 'initial' };

/** A server, and what looks at runs that read its tables. */
export const useSnapshotRuns = () => {
  const cdc = useCdc(['max_wal_senders=2']);
  const { all, capture, schema, server } = cdc;
  return {
    ...cdc,
    topic: (table: string) => `shop.${schema()}.${table}`,
    async runsOf(tables: readonly string[], more: Struct = {}, options = {}) {
      const { config } = await capture(tables, { ...initial, ...more });
      return createRuns(config, options);
    },
    async session() {
      const client = new pg.Client(server().url);
      await client.connect();
      await client.query(`SET search_path = ${schema()}`);
      return client;
    },
    /** A waiting lock, or sleep, of the connector's. */
    isWaiting: async (event: string) =>
      (await all(`SELECT FROM pg_stat_activity WHERE application_name LIKE 'sluice%' AND wait_event_type = '${event}'`))
        .length > 0,
  };
};
