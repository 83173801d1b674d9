import type { RecordBatch } from '../../shared/connect/batch.ts';
import type { Budget, Offsets, Poll, PutContext, SinkTask, SourceTask } from '../../shared/connect/connector.ts';
import { type Outcome, type RunRequest, type RunResult, runTask } from '../../shared/runtime/run.ts';
import { defaultErrorPolicy } from '../../shared/state/connectors.ts';
import { connectorPk } from '../../shared/state/keys.ts';
import { readTask, type TaskRow } from '../../shared/state/lease.ts';
import { memoryTable } from '../../shared/state/memory/table.ts';
import { loadProgress } from '../../shared/state/offsets.ts';
import type { Item, Table, Write } from '../../shared/state/table.ts';
import { arraySource, owningDestination, type Row } from './memory-connectors.ts';
import { manualClock } from './world.ts';

export const identity = { connector: 'c', incarnation: 'i1', deployment: 'test' };

/** Rows k0, k1, … of one key each, or of the keys given. */
export const numbered = (count: number, keys: readonly string[] = []): readonly Row[] =>
  Array.from({ length: count }, (_, n) => ({ key: keys[n % keys.length] ?? `k${n}`, n }));

export const upstreamOf = (partitions: Readonly<Record<string, readonly Row[]>>): Map<string, Row[]> =>
  new Map(Object.entries(partitions).map(([name, rows]) => [name, [...rows]]));

/**
 * Runs of one task against a table in memory. `events` is what happened, in order: every table operation in words (`commit a 5`,
 * `lease`, `release`, `wake`), and what a test adds.
 */
export const createRunKit = (base: Table = memoryTable()) => {
  const events: string[] = [];
  const warnings: string[] = [];
  const clock = manualClock();
  const table = recorded(base, events);
  let ids = 0;

  const request = (overrides: Partial<RunRequest> = {}): RunRequest => ({
    identity,
    taskId: 0,
    requestId: `request-${ids++}`,
    table,
    budget: { maxRecords: 5, maxBytes: 1 << 20 },
    errors: defaultErrorPolicy,
    transforms: [],
    openSource: async () => arraySource(upstreamOf({ a: numbered(3) }), 'rows') as SourceTask<unknown>,
    openSink: async () => owningDestination().sink(),
    stillCurrent: async () => true,
    stop: new AbortController().signal,
    abort: new AbortController().signal,
    leaseExpiresAtMs: clock.now() + 60_000,
    clock,
    newId: () => `id-${ids++}`,
    log: (level, message) => void (level === 'warn' && warnings.push(message)),
    ...overrides,
  });

  return {
    base,
    table,
    events,
    warnings,
    clock,
    request,
    run: (overrides: Partial<RunRequest> = {}): Promise<RunResult> => runTask(request(overrides)),
    task: (): Promise<TaskRow> => readTask(base, identity.connector, 0),
    /** Each partition's committed offset and its number of commits. */
    async committed(): Promise<Record<string, readonly [offset: unknown, seq: number]>> {
      const { offsets } = await loadProgress(base, identity);
      return Object.fromEntries(offsets.map(({ partition, offset, seq }) => [String(partition.name), [offset, seq]]));
    },
    rows: () => base.query(connectorPk(identity.connector)),
    writes: () => events.filter((event) => !/^(get|query)/.test(event)),
  };
};

export type RunKit = ReturnType<typeof createRunKit>;

/** A table whose operations are told in words as they are answered. */
const recorded = (table: Table, events: string[]): Table => ({
  async get(key) {
    events.push(`get ${key.sk}`);
    return table.get(key);
  },
  async getMany(keys) {
    events.push(`get ${keys.map(({ sk }) => sk).join(' ')}`);
    return table.getMany(keys);
  },
  async query(pk, query) {
    events.push(`query ${pk}`);
    return table.query(pk, query);
  },
  async write(writes) {
    const result = await table.write(writes);
    events.push(`${result.ok ? '' : 'refused '}${writes.map(inWords).join(', ')}`);
    return result;
  },
  names: (kind) => table.names(kind),
});

const inWords = (write: Write): string => {
  if ('delete' in write) return `delete ${lastOf(write.delete.sk)}`;
  if ('update' in write) return `update ${write.update.sk}`;
  const { put } = write;
  if (put.sk.startsWith('TASK#')) return put.owner === undefined ? `release ${put.state}` : 'lease';
  if (put.sk.startsWith('WAKE#')) return 'wake';
  if (put.sk.includes('#OFFSET#')) return `${put.cache === true ? 'cache' : 'commit'} ${offsetInWords(put)}`;
  return `put ${lastOf(put.sk)}`;
};

const lastOf = (sk: string): string => sk.split('#').slice(2).join('#') || sk;

const offsetInWords = ({ partition, offset }: Item): string =>
  `${JSON.parse(String(partition)).name} ${JSON.parse(String(offset))?.next ?? String(offset)}`;

/** Tells the events of a source: `poll`, `polled 5`, `acknowledge a 5`, `close source`. */
export const toldSource = <O>(source: SourceTask<O>, events: string[]): SourceTask<unknown> => {
  const told: SourceTask<O> = {
    async poll(offsets: Offsets<O>, budget: Budget): Promise<Poll<O>> {
      events.push('poll');
      const poll = await source.poll(offsets, budget);
      events.push(`polled ${poll.batch.count}`);
      return poll;
    },
    async commit(positions) {
      for (const { partition, offset } of positions)
        events.push(`acknowledge ${partition.name} ${(offset as { next?: number }).next}`);
      await source.commit?.(positions);
    },
    ...(source.wait === undefined ? {} : { wait: source.wait }),
    ...(source.more === undefined
      ? {}
      : {
          async more(offsets) {
            events.push('more?');
            return source.more!(offsets);
          },
        }),
    async close() {
      events.push('close source');
      await source.close();
    },
  };
  return told as SourceTask<unknown>;
};

/** Tells the events of a sink: `put 5` when it begins, `written 5` when it has, `close sink`. */
export const toldSink = (sink: SinkTask, events: string[]): SinkTask => ({
  ...sink,
  async put(batch: RecordBatch, context: PutContext) {
    events.push(`put ${batch.count}`);
    const result = await sink.put(batch, context);
    events.push(`written ${batch.count}`);
    return result;
  },
  async close() {
    events.push('close sink');
    await sink.close();
  },
});

/** Runs until a run finds nothing; returns the outcomes before. */
export const runUntilIdle = async (kit: RunKit, overrides: () => Partial<RunRequest>): Promise<readonly Outcome[]> => {
  const outcomes: Outcome[] = [];
  for (let round = 0; round < 100; round++) {
    const { outcome, batches } = await kit.run(overrides());
    if (outcome === 'idle' || (outcome === 'drained' && batches === 0)) return outcomes;
    outcomes.push(outcome);
  }
  throw new Error(`does not come to rest: ${outcomes.join(' ')}`);
};
