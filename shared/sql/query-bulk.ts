import { type Budget, type Offsets, type Poll, type Position, partitionKey } from '../connect/connector.ts';
import { controlRecord } from '../connect/control.ts';
import type { QueryOffset } from '../connect/query-config.ts';
import { noPoll, runName, runRecord } from './query-poll.ts';
import { freshOffset, type QuerySource, requireOurs } from './query-position.ts';
import { type Looked, type Mode, pollSlice, type Reading, type Slice } from './query-reading.ts';
import type { QueryTable } from './query-table.ts';
import { committing, waiting } from './snapshot-poll.ts';

/*
 * Bulk. One task reads a table behind its offset, `{server, table}`, to the end. Of several tasks the first begins: it commits in that offset the
 * bounds that part the table's key into ranges, and wakes the others. Each range is a partition `{server, table, range}` of one task. Who
 * finds all of them read ends the table: a task that waits looks at what others have committed meanwhile, under its lease, so the last one to
 * commit does (invariant 9), and of two that see it at once one is fenced (invariant 1).
 */

/** `wait`: other tasks have to begin, or to read what is theirs. `end`: all ranges are read. */
type Step<T extends QueryTable> =
  | { readonly kind: 'begin' | 'end'; readonly source: QuerySource<T>; readonly from: QueryOffset }
  | ({ readonly kind: 'read' } & Slice<T>)
  | { readonly kind: 'wait' };

type Action<T extends QueryTable> = Exclude<Step<T>, { readonly kind: 'wait' }>;

export const readInBulk = <T extends QueryTable>(reading: Reading<T>): Mode<T> => {
  const part: Part = { isTaken: false };
  return {
    async poll(looked, offsets, budget) {
      const step = nextStep(reading, part, looked, offsets);
      if (step === undefined) return noPoll;
      if (step.kind === 'wait') return waiting();
      part.isTaken = true;
      const poll = await take(reading, step, budget);
      const next = nextStep(reading, part, looked, moved(offsets, poll.offsets));
      return { ...poll, caughtUp: next === undefined || next.kind === 'wait', waits: next?.kind === 'wait' };
    },
    async more(looked, offsets) {
      const step = nextStep(reading, part, looked, offsets);
      return step?.kind === 'wait' ? 'waits' : step !== undefined;
    },
  };
};

/** This task has read, or seen that all had just been read: it begins no other reading, and so does not wake itself for ever (invariant 9). */
interface Part {
  isTaken: boolean;
}

/** How long bulk rests when all is read: a trigger that comes twice reads once. Those of several tasks come one after the other. */
const restMs = (tasks: number): number => (tasks === 1 ? 1_000 : 30_000);

/** What the task does next, by what is committed; undefined: nothing. */
const nextStep = <T extends QueryTable>(
  reading: Reading<T>,
  part: Part,
  { identity, sources }: Looked<T>,
  offsets: Offsets<QueryOffset>,
): Step<T> | undefined => {
  const heads = sources.map(({ partition }) => offsets.get(partition));
  const known = heads.filter((head) => head !== undefined);
  const last = Math.max(0, ...known.map((head) => head.reading ?? 0));
  /** Of a reading that another invocation may have begun: what had ended before is of the one before. */
  const isRead = (head: QueryOffset | undefined) => head?.endedMs !== undefined && (head.reading ?? 0) === last;
  const isOver = heads.every(isRead);
  if (isOver) {
    // A clock that was set back since says nothing of how long it is ago, and is no reason to rest until it is there again.
    part.isTaken ||=
      Math.abs(Date.now() - Math.max(0, ...known.map(({ endedMs = 0 }) => endedMs))) < restMs(reading.tasks);
  }
  if (isOver && part.isTaken) return undefined;
  const number = isOver || known.length === 0 ? last + 1 : last;
  const steps = sources.map((source, at) => {
    const fresh = freshOffset(source, identity, reading.config);
    const head = heads[at];
    // The end of a bulk is no position: the next one reads all rows, whichever they are.
    if (head === undefined || (head.mode === 'bulk' && head.endedMs !== undefined))
      return isRead(head) && !isOver ? undefined : beginStep(reading, source, { ...fresh, reading: number }, offsets);
    return tableStep(reading, source, at, requireOurs(head, fresh, source), offsets);
  });
  // The others can read what is begun.
  const begins = reading.tasks === 1 ? undefined : steps.find((step) => step?.kind === 'begin');
  return begins ?? steps.find((step) => step !== undefined && step.kind !== 'wait') ?? steps.find(Boolean);
};

const beginStep = <T extends QueryTable>(
  { task }: Reading<T>,
  source: QuerySource<T>,
  fresh: QueryOffset,
  offsets: Offsets<QueryOffset>,
): Step<T> =>
  task === 0 ? { kind: 'begin', source, from: { ...fresh, run: nextRun(source, offsets) } } : { kind: 'wait' };

/** Ranges of the last run are left where an operator took the table's own offset away: they are not those of this one. */
const nextRun = ({ partition, table }: QuerySource, offsets: Offsets<QueryOffset>): number => {
  let last = offsets.get(partition)?.run ?? 0;
  for (const { partition: of, offset } of offsets.all())
    if (of.range !== undefined && of.table === table.name && of.server === partition.server)
      last = Math.max(last, offset.run ?? 0);
  return last + 1;
};

/** Of a table whose reading is under way. */
const tableStep = <T extends QueryTable>(
  { task, tasks }: Reading<T>,
  source: QuerySource<T>,
  at: number,
  from: QueryOffset,
  offsets: Offsets<QueryOffset>,
): Step<T> => {
  const { partition } = source;
  // Begun when there was one task.
  if (from.bounds === undefined) return task === 0 ? { kind: 'read', source, partition, from } : { kind: 'wait' };
  const left = rangesOf(source, from, from.bounds, offsets).filter((range) => range.from.endedMs === undefined);
  if (left.length === 0) return { kind: 'end', source, from };
  const own = left.find(({ partition: { range } }) => (at + Number(range)) % tasks === task);
  return own === undefined ? { kind: 'wait' } : { kind: 'read', ...own };
};

const rangesOf = <T extends QueryTable>(
  source: QuerySource<T>,
  { bounds: _, ...head }: QueryOffset,
  bounds: NonNullable<QueryOffset['bounds']>,
  offsets: Offsets<QueryOffset>,
): readonly Slice<T>[] =>
  Array.from({ length: bounds.length + 1 }, (_, range) => {
    const partition = { ...source.partition, range };
    const stored = offsets.get(partition);
    const isOfRun = stored?.mode === 'bulk' && stored.run === head.run;
    const from = isOfRun ? stored : { ...head, after: bounds[range - 1] ?? null };
    return { source, partition, from, to: bounds[range] };
  });

const take = async <T extends QueryTable>(
  reading: Reading<T>,
  step: Action<T>,
  budget: Budget,
): Promise<Poll<QueryOffset>> => {
  const { config, reader, tasks } = reading;
  const { source, from } = step;
  const isTold = config.runs;
  const end = () => pollEvent(reading, source, 'end', ended(from));
  if (step.kind === 'end') return end();
  if (step.kind === 'begin' && tasks > 1) {
    const offset = { ...from, bounds: await reader.bounds(source.table) };
    return { ...pollEvent(reading, source, 'begin', offset), wakes: true };
  }
  if (step.kind === 'begin' && isTold) return pollEvent(reading, source, 'begin', from);
  const slice = step.kind === 'read' ? step : { source, partition: source.partition, from };
  const poll = await pollSlice(reading, slice, budget, !isTold);
  // Where runs are told, what ends is a record by itself.
  if (!isTold || poll.offsets.length > 0) return poll;
  return slice.partition === source.partition ? end() : rangeEnd(reading, slice);
};

/** Commits that the reading of a table begins or ends, with the record that tells it where runs are told. */
const pollEvent = (
  { config, incarnation }: Reading,
  source: QuerySource,
  event: 'begin' | 'end',
  offset: QueryOffset,
): Poll<QueryOffset> =>
  committing(
    { partition: source.partition, offset },
    config.runs ? runRecord(source, incarnation, event, offset) : undefined,
  );

const ended = (offset: QueryOffset): QueryOffset => ({ ...offset, endedMs: Date.now() });

/** A sink that writes transactions whole has the rows of each partition in a lane of its own, and would keep those of a range for ever. */
const rangeEnd = ({ incarnation }: Reading, { source, partition, from }: Slice): Poll<QueryOffset> => {
  const transaction = `${runName(source, incarnation, from)}/${partition.range}`;
  return committing({ partition, offset: ended(from) }, controlRecord(source.topic, { event: 'commit', transaction }));
};

/** The offsets when these are committed. */
const moved = (offsets: Offsets<QueryOffset>, to: readonly Position<QueryOffset>[]): Offsets<QueryOffset> => {
  const positions = new Map(Array.from(offsets.all(), (one) => [partitionKey(one.partition), one]));
  for (const position of to) positions.set(partitionKey(position.partition), position);
  return { get: (partition) => positions.get(partitionKey(partition))?.offset, all: () => positions.values() };
};
