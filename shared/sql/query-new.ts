import type { Budget, Offsets, Poll } from '../connect/connector.ts';
import { canonicalJson } from '../connect/json.ts';
import type { QueryOffset } from '../connect/query-config.ts';
import type { Value } from '../connect/schema.ts';
import { cursorOfRow } from './query-page.ts';
import { noPoll, runRecord } from './query-poll.ts';
import { freshOffset, type QuerySource, requireOurs } from './query-position.ts';
import { type Mode, pollSlice, type Reading } from './query-reading.ts';
import { backwards, conditionsOf, selectOf, whereOf } from './query-statement.ts';
import type { QueryTable } from './query-table.ts';
import { committing } from './snapshot-poll.ts';

/*
 * New rows, by number or by timestamp. Where runs are told, what there is to read of a table when a run looks is a window: from its offset to
 * the last value of the cursor's first column. The offset keeps that bound, so that whoever goes on reads the same window.
 */

export const readNew = <T extends QueryTable>(reading: Reading<T>): Mode<T> => ({
  async poll({ identity, sources }, offsets, budget) {
    let found: Poll<QueryOffset> | undefined;
    for (const source of sources.filter((one) => !isDone(one, offsets))) {
      const from = positionOf(reading, source, identity, offsets);
      const poll = await pollSource(reading, source, from, budget);
      const isEmpty = poll.offsets.length === 0;
      if (poll.caughtUp) source.doneAt = textOf(isEmpty ? offsets.get(source.partition) : poll.offsets[0]!.offset);
      if (isEmpty) continue;
      found = poll;
      break;
    }
    const [moved] = found?.offsets ?? [];
    const caughtUp = sources.every((source) =>
      moved?.partition === source.partition ? found!.caughtUp : isDone(source, offsets),
    );
    // The next poll of a run that goes on looks at all of them anew.
    if (caughtUp) for (const source of sources) source.doneAt = undefined;
    return { ...(found ?? noPoll), caughtUp };
  },

  async more({ identity, sources }, offsets) {
    const { config, reader } = reading;
    const froms = sources.map((source) => positionOf(reading, source, identity, offsets));
    // The end of a window is told, even where none of its rows is left.
    if (froms.some(({ to }) => to !== undefined)) return true;
    if (sources.length === 0) return false;
    const behind = sources.map(({ table, cursor }, i) => {
      const found = conditionsOf(cursor, froms[i]!, reader.dialect);
      // Of rows without a value no window is made; read without windows they stop the task, lest they be missed.
      const conditions = config.runs ? [...found, backwards(cursor).condition] : found;
      return `EXISTS (SELECT 1 FROM ${table.from} AS q${whereOf(config, conditions)})`;
    });
    const [row] = await reader.connection.query<{ found: unknown }>(`SELECT ${behind.join(' OR ')} AS found`);
    return Number(row!.found) === 1;
  },
});

const positionOf = (
  { config }: Reading,
  source: QuerySource,
  identity: string,
  offsets: Offsets<QueryOffset>,
): QueryOffset => {
  const fresh = freshOffset(source, identity, config);
  const stored = offsets.get(source.partition);
  return stored === undefined ? fresh : requireOurs(stored, fresh, source);
};

const isDone = ({ doneAt, partition }: QuerySource, offsets: Offsets<QueryOffset>): boolean =>
  doneAt === textOf(offsets.get(partition));

const textOf = (offset: QueryOffset | undefined): string => canonicalJson({ ...offset } as Value);

const pollSource = async <T extends QueryTable>(
  reading: Reading<T>,
  source: QuerySource<T>,
  from: QueryOffset,
  budget: Budget,
): Promise<Poll<QueryOffset>> => {
  const { partition } = source;
  const { to, ...behind } = from;
  if (to === undefined && reading.config.runs) return beginWindow(reading, source, from);
  const poll = await pollSlice(reading, { source, partition, from, to }, budget, false);
  if (to === undefined) return poll;
  // Also where runs are told no more: what a sink has staged of the window would never be shown.
  if (poll.offsets.length > 0) return { ...poll, caughtUp: false };
  const end = committing({ partition, offset: behind }, runRecord(source, reading.incarnation, 'end', from));
  return { ...end, caughtUp: true };
};

const beginWindow = async <T extends QueryTable>(
  reading: Reading<T>,
  source: QuerySource<T>,
  from: QueryOffset,
): Promise<Poll<QueryOffset>> => {
  const last = await lastOf(reading, source, from);
  if (last === undefined) return noPoll;
  const offset = { ...from, run: (from.run ?? 0) + 1, to: [last] };
  return committing({ partition: source.partition, offset }, runRecord(source, reading.incarnation, 'begin', offset));
};

/** The last value of the cursor's first column that there is to read now. */
const lastOf = async <T extends QueryTable>(
  { config, reader }: Reading<T>,
  { table, topic, cursor }: QuerySource<T>,
  from: QueryOffset,
): Promise<string | undefined> => {
  const last = backwards(cursor);
  const conditions = [...conditionsOf(cursor, from, reader.dialect), last.condition];
  const rows = await reader.rows(table, {
    ...{ topic, cursor: last.cursor, maxRows: 1, maxBytes: 1 },
    sql: (fields) => selectOf(table, fields, last.cursor, config, conditions, 1),
  });
  return rows.count === 0 ? undefined : cursorOfRow(rows, 0, last.cursor, table)[0];
};
