import { partitionKey } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { writeJson } from '../../shared/connect/json.ts';
import { type LogOffset, logSource } from '../../shared/log/read.ts';
import { queuesOf, readHeadRows, requireTopic } from '../../shared/log/topics.ts';
import type { Table } from '../../shared/state/table.ts';
import { type Answer, count, tableLines } from './output.ts';
import { type OpenPlatform, openPlatform, type Place } from './platform.ts';

export const listTopics = async (place: Place): Promise<Answer> => {
  const platform = await openPlatform(place);
  try {
    const topics = await Promise.all(
      (await platform.table.names('topic')).map((name) => describe(platform.table, name)),
    );
    return {
      lines: tableLines(
        ['topic', 'queues', 'records', 'retention'],
        topics.map((topic) => [
          topic.name,
          String(topic.queues.length),
          count(topic.records),
          `${topic.retentionMs / 86_400_000} d`,
        ]),
      ),
      result: topics,
    };
  } finally {
    await platform.close();
  }
};

export const describeTopic = async (place: Place, name: string): Promise<Answer> => {
  const platform = await openPlatform(place);
  try {
    const topic = await describe(platform.table, name);
    const rows = topic.queues.map(({ generation, queue, start, next, sealed }) => [
      String(generation),
      String(queue),
      String(start),
      String(next),
      sealed ? 'sealed' : '',
    ]);
    return { lines: tableLines(['generation', 'queue', 'start', 'next', ''], rows), result: topic };
  } finally {
    await platform.close();
  }
};

const describe = async (table: Table, name: string) => {
  const topic = await requireTopic(table, name);
  const partitions = queuesOf(name, topic.generations);
  const heads = await readHeadRows(table, partitions);
  const queues = partitions.map(({ generation, queue }, i) => ({
    generation,
    queue,
    start: Number(heads[i]?.start),
    next: Number(heads[i]?.next),
    sealed: heads[i]?.sealed === true,
  }));
  return {
    name,
    retentionMs: topic.retentionMs,
    records: queues.reduce((sum, { start, next }) => sum + next - start, 0),
    queues,
  };
};

/** A topic's records as JSON lines: the last ones, or the first. */
export const tailTopic = async (
  place: Place,
  name: string,
  options: { limit: number; fromBeginning: boolean },
): Promise<Answer> => {
  const platform = await openPlatform(place);
  try {
    const lines = await readRecords(platform, name, options);
    return { lines, result: lines.map(parseExactly) };
  } finally {
    await platform.close();
  }
};

type Reviver = (key: string, value: unknown, context: { readonly source?: string }) => unknown;
// Both are in Node since 22, and not in TypeScript's library.
const { parse, rawJSON } = JSON as unknown as {
  parse(text: string, reviver: Reviver): unknown;
  rawJSON(text: string): unknown;
};

/** An object whose numbers stay as they are written: an id may have more digits than a double. */
const parseExactly = (line: string): unknown =>
  parse(line, (_key, value, { source }) =>
    typeof value === 'number' && source !== undefined ? rawJSON(source) : value,
  );

const readRecords = async (
  { table, objects }: OpenPlatform,
  name: string,
  { limit, fromBeginning }: { limit: number; fromBeginning: boolean },
): Promise<readonly string[]> => {
  if (!Number.isInteger(limit) || limit < 1)
    throw new ConnectError('CONFIG_INVALID', '--limit takes a whole number of at least 1');
  await requireTopic(table, name);
  const source = logSource({ table, objects, topics: [name], task: 0, tasks: 1 });
  const at = new Map<string, LogOffset>();
  const lines: string[] = [];
  for (let left = fromBeginning ? limit : Number.POSITIVE_INFINITY; left > 0; ) {
    const budget = { maxRecords: Math.min(left, 5_000), maxBytes: 4 << 20, signal: new AbortController().signal };
    const poll = await source.poll({ get: (partition) => at.get(partitionKey(partition)), all: () => [] }, budget);
    for (const { partition, offset } of poll.offsets) at.set(partitionKey(partition), offset);
    let index = 0;
    for (const record of poll.batch) {
      const { partition, offset } = poll.position(index++);
      lines.push(
        writeJson({
          ...partition,
          offset: { ...offset },
          key: record.key,
          value: record.value,
          headers: Object.fromEntries(record.headers.map((h) => [h.key, h.value])),
        }),
      );
    }
    if (!fromBeginning && lines.length > limit) lines.splice(0, lines.length - limit);
    left -= poll.batch.count;
    if (poll.caughtUp) break;
  }
  return lines.slice(0, limit);
};
