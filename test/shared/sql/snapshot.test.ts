import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Offsets, type Partition, partitionKey } from '../../../shared/connect/connector.ts';
import {
  evenBounds,
  isSeen,
  nextStep,
  type PlanOffset,
  type RangeOffset,
  type SnapshotScope,
  snapshotProgress,
  viewsOf,
} from '../../../shared/sql/snapshot.ts';

const stream = { server: 's' };

const store = () => {
  const stored = new Map<string, { partition: Partition; offset: unknown }>();
  const offsets: Offsets<unknown> = {
    get: (partition) => stored.get(partitionKey(partition))?.offset,
    all: () => stored.values(),
  };
  return {
    offsets,
    set: (partition: Partition, offset: unknown) => void stored.set(partitionKey(partition), { partition, offset }),
    remove: (partition: Partition) => void stored.delete(partitionKey(partition)),
  };
};

const scopeOf = (tables: readonly string[], task = 0, tasks = 1): SnapshotScope => ({
  stream,
  tables,
  task,
  tasks,
  runs: false,
});

const planned = (bounds: PlanOffset['bounds'], plan = 1): PlanOffset => ({
  server: 'id',
  plan,
  bounds,
  rows: 10,
  sinceMs: 5,
});

const done = (range: RangeOffset<unknown>): RangeOffset<unknown> => ({ ...range, done: true });

/** Does what the tasks are told, each in turn, and says which ranges were read by whom. */
const readAll = (
  state: ReturnType<typeof store>,
  tables: readonly string[],
  tasks: number,
  bounds: PlanOffset['bounds'],
) => {
  const read: (readonly [table: string, task: number, after: unknown, to: unknown])[] = [];
  for (let idle = 0, turn = 0; idle < tasks; turn++) {
    const task = turn % tasks;
    const step = nextStep<unknown>(scopeOf(tables, task, tasks), state.offsets);
    idle = step.kind === 'done' || step.kind === 'wait' ? idle + 1 : 0;
    if (step.kind === 'plan') state.set(step.partition, planned(bounds, step.plan));
    if (step.kind === 'forget') state.set(step.partition, step.offset);
    if (step.kind === 'read') {
      read.push([step.range.table, task, step.range.offset.after, step.range.to]);
      state.set(step.range.partition, done(step.range.offset));
    }
  }
  return read;
};

describe('the steps of a snapshot', () => {
  it('are planned by the first task and read once, by all', () => {
    const state = store();
    const read = readAll(state, ['a', 'b'], 2, [['5'], ['9']]);
    expect([...read].sort()).toEqual(
      [
        ['a', 0, null, ['5']],
        ['a', 0, ['9'], null],
        ['a', 1, ['5'], ['9']],
        ['b', 0, ['5'], ['9']],
        ['b', 1, ['9'], null],
        ['b', 1, null, ['5']],
      ].sort(),
    );
    expect(nextStep(scopeOf(['a', 'b']), state.offsets)).toEqual({ kind: 'done' });
  });

  it('wait for the plan, and for what others read', () => {
    const state = store();
    expect(nextStep(scopeOf(['a'], 1, 2), state.offsets)).toEqual({ kind: 'wait' });
    state.set({ ...stream, table: 'a' }, planned([['5']]));
    const mine = nextStep<unknown>(scopeOf(['a'], 1, 2), state.offsets);
    if (mine.kind !== 'read') throw new Error(mine.kind);
    state.set(mine.range.partition, done(mine.range.offset));
    expect(nextStep(scopeOf(['a'], 1, 2), state.offsets)).toEqual({ kind: 'wait' });
  });

  it('begin anew for a table whose plan was reset, whatever was read of it', () => {
    const state = store();
    readAll(state, ['a', 'b'], 2, [['5']]);
    state.remove({ ...stream, table: 'a' });
    expect(readAll(state, ['a', 'b'], 2, []).map(([table, , after, to]) => [table, after, to])).toEqual([
      ['a', null, null],
    ]);
  });

  it('begin anew for a table that was taken out and comes back: its changes were not read meanwhile', () => {
    const state = store();
    readAll(state, ['a', 'b'], 1, []);
    expect(nextStep(scopeOf(['b'], 1, 2), state.offsets)).toEqual({ kind: 'done' });
    expect(readAll(state, ['b'], 1, [])).toEqual([]);
    expect(readAll(state, ['a', 'b'], 1, [])).toEqual([['a', 0, null, null]]);
  });

  it('end with the end of the run, told once and by the first task, where runs are told', () => {
    const state = store();
    readAll(state, ['a'], 2, [['5']]);
    const scope = (task: number) => ({ ...scopeOf(['a'], task, 2), runs: true });
    expect(nextStep(scope(1), state.offsets)).toEqual({ kind: 'done' });
    const step = nextStep(scope(0), state.offsets);
    if (step.kind !== 'end') throw new Error(step.kind);
    state.set(step.partition, step.offset);
    expect(nextStep(scope(0), state.offsets)).toEqual({ kind: 'done' });
  });

  it('leave alone what belongs to another server', () => {
    const state = store();
    state.set({ server: 'other', table: 'x' }, planned([]));
    expect(nextStep(scopeOf([]), state.offsets)).toEqual({ kind: 'done' });
  });
});

describe('the progress of a snapshot', () => {
  it('counts the rows of the present plan, and is done when all its ranges are', () => {
    const range = (number: number, plan: number, rows: number, isDone: boolean) => ({
      partition: { ...stream, table: 'a', range: number },
      offset: { plan, after: null, done: isDone, rows, views: [] },
    });
    const plan = { partition: { ...stream, table: 'a' }, offset: planned([['5']], 2) };
    const others = [
      { partition: stream, offset: { file: 'f' } },
      { partition: { ...stream, table: 'b' }, offset: { ...planned([]), plan: null } },
    ];
    const of = (...ranges: ReturnType<typeof range>[]) => snapshotProgress([plan, ...others, ...ranges]);
    expect(of(range(0, 2, 4, true), range(1, 1, 100, true))).toEqual([
      { table: 'a', rows: 4, of: 10, done: false, sinceMs: 5 },
    ]);
    expect(of(range(0, 2, 40, true), range(1, 2, 3, false))).toMatchObject([{ rows: 43, of: 43, done: false }]);
    expect(of(range(0, 2, 4, true), range(1, 2, 3, true))).toMatchObject([{ rows: 7, of: 7, done: true }]);
    expect(snapshotProgress(others)).toEqual([]);
  });
});

describe('bounds', () => {
  it('part all integers into ranges that differ by less than one range', () => {
    fc.assert(
      fc.property(
        fc.bigInt(-1n << 63n, 1n << 62n),
        fc.bigInt(0n, 1n << 62n),
        fc.integer({ min: 1, max: 32 }),
        (least, span, ranges) => {
          const most = least + span;
          const bounds = evenBounds(least, most, ranges).map(([bound]) => BigInt(bound!));
          if (span + 1n < BigInt(ranges)) return bounds.length === 0;
          expect(bounds).toHaveLength(ranges - 1);
          const ends = [least - 1n, ...bounds, most];
          const widths = ends.slice(1).map((end, i) => end - ends[i]!);
          const even = widths[0]!;
          return even > 0n && widths.every((width) => width >= even && width < even + BigInt(ranges));
        },
      ),
    );
  });
});

describe('what a row was read with', () => {
  /** Ranges of an integer key, each read in views that begin at some keys; a view has seen some changes. */
  const tables = fc.array(fc.record({ from: fc.integer({ min: 0, max: 20 }), seen: fc.boolean() }), { minLength: 1 });

  it('is told by the one view that its row was read in', () => {
    fc.assert(
      fc.property(tables, fc.integer({ min: -2, max: 22 }), (given, key) => {
        const sorted = [...new Map(given.map((view) => [view.from, view])).values()].sort((a, b) => a.from - b.from);
        const views = sorted.map(({ from }, i) => ({ after: i === 0 ? null : [String(from)] }));
        const reading = sorted.findLastIndex(({ from }, i) => i === 0 || key > from);
        expect(
          isSeen(
            views,
            sorted.map(({ seen }) => seen),
            key,
          ),
        ).toBe(sorted[reading]!.seen);
      }),
    );
  });

  it.each([
    ['of a key of several columns, of which the first does not tell', [null, ['5', 'b']], [true, false], 5, false],
    ['the same, seen by both', [null, ['5', 'b']], [true, true], 5, true],
    ['the same, behind', [null, ['5', 'b']], [false, true], 6, true],
    ['of a text, whose order only the server knows', [null, ['m']], [true, false], 'z', false],
    ['of a key that was a text when it was read, and is a number now', [null, ['m']], [true, false], 5, false],
    ['of a text that all have seen', [null, ['m']], [true, true], 'z', true],
  ])('%s', (_, afters, seen, key, expected) => {
    expect(
      isSeen(
        afters.map((after) => ({ after })),
        seen,
        key,
      ),
    ).toBe(expected);
  });

  it('is what the views of all ranges say, in the order of the key', () => {
    const state = store();
    const scope = scopeOf(['a']);
    const plan = planned([['5']]);
    state.set({ ...stream, table: 'a' }, plan);
    const range = (views: RangeOffset<string>['views']) => ({
      plan: plan.plan!,
      after: null,
      done: true,
      rows: 1,
      views,
    });
    state.set({ ...stream, table: 'a', range: 1 }, range([{ after: ['5'], view: 'w' }]));
    state.set(
      { ...stream, table: 'a', range: 0 },
      range([
        { after: null, view: 'u' },
        { after: ['3'], view: 'v' },
      ]),
    );
    expect(viewsOf<string>(scope, 'a', state.offsets).map(({ view }) => view)).toEqual(['u', 'v', 'w']);
  });
});
