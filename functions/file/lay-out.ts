import { gatherGroup, type RecordBatch, type RecordGroup, VALUE } from '../../shared/connect/batch.ts';
import type { Rejected } from '../../shared/connect/connector.ts';
import { rowError } from '../../shared/connect/errors.ts';
import { isStruct } from '../../shared/connect/schema.ts';
import { type BadRows, type FileBuilder, recordOf } from './file-builder.ts';
import { partitionGroup, pathPart } from './partition-path.ts';
import type { Format } from './sink-format.ts';

/** One file that a batch becomes: the records of one topic and one partition directory, in their order. */
export interface LaidOutFile {
  readonly topic: string;
  /** Below the sink's path: topic and partitions, each safe as a name. */
  readonly directory: string;
  readonly builder: FileBuilder;
  rows: number;
}

/** Spreads a batch over as few files as its topics, partitions and schemas allow. */
export const layOut = (
  batch: RecordBatch,
  format: Format,
  partitionBy: readonly string[],
): { files: readonly LaidOutFile[]; rejected: readonly Rejected[] } => {
  const files = new Map<string, LaidOutFile[]>();
  const rejected: Rejected[] = [];
  let start = 0;
  for (const group of batch.groups) {
    const reject = (bad: BadRows, rows?: readonly number[]) => {
      for (const [row, error] of bad) rejected.push({ index: start + (rows === undefined ? row : rows[row]!), error });
    };
    const { rows, bad } = partitionGroup(group, partitionBy);
    reject(bad);
    for (const [partitions, all] of rows) {
      const { live, dead } = withoutTombstones(group, all);
      reject(dead);
      if (live.length === 0) continue;
      const part = live.length === group.count ? group : gatherGroup(group, Uint32Array.from(live));
      const directory = partitions === '' ? pathPart(group.topic) : `${pathPart(group.topic)}/${partitions}`;
      const file = fileFor(files, directory, part, format);
      const left = file.builder.add(part);
      file.rows += part.count - left.size;
      reject(left, live);
    }
    start += group.count;
  }
  rejected.sort((a, b) => a.index - b.index);
  return { files: [...files.values()].flat().filter((file) => file.rows > 0), rejected };
};

/** How many records, from the start, spread over at most `maxDirectories`; at least one. */
export const countWithin = (batch: RecordBatch, partitionBy: readonly string[], maxDirectories: number): number => {
  const directories = new Set<string>();
  let start = 0;
  for (const group of batch.groups) {
    const firsts: [row: number, directory: string][] = [];
    for (const [partitions, [first]] of partitionGroup(group, partitionBy).rows)
      firsts.push([first!, `${group.topic}/${partitions}`]);
    for (const [row, directory] of firsts.sort(([a], [b]) => a - b)) {
      if (directories.has(directory)) continue;
      if (directories.size === maxDirectories) return start + row;
      directories.add(directory);
    }
    start += group.count;
  }
  return batch.count;
};

const fileFor = (
  files: Map<string, LaidOutFile[]>,
  directory: string,
  group: RecordGroup,
  format: Format,
): LaidOutFile => {
  const there = files.get(directory) ?? [];
  files.set(directory, there);
  const fitting = there.find(({ builder }) => builder.accepts(group));
  if (fitting !== undefined) return fitting;
  const made: LaidOutFile = { topic: group.topic, directory, builder: format.newFile(), rows: 0 };
  there.push(made);
  return made;
};

const withoutTombstones = (group: RecordGroup, rows: readonly number[]): { live: readonly number[]; dead: BadRows } => {
  const { schema, columns, nulls } = group.value;
  const state = isStruct(schema) ? undefined : columns[0]?.state;
  if (nulls === undefined && state === undefined) return { live: rows, dead: new Map() };
  const isDead = (row: number) => nulls?.[row] === 1 || (state !== undefined && state[row] !== VALUE);
  const error = rowError(
    `${recordOf(group)} is a tombstone (its value is null), and files hold no deletions: leave tombstones out by a transform, or give them a value`,
  );
  const dead = rows.filter(isDead);
  if (dead.length === 0) return { live: rows, dead: new Map() };
  return { live: rows.filter((row) => !isDead(row)), dead: new Map(dead.map((row) => [row, error])) };
};
