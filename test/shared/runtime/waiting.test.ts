import { describe, expect, it } from 'vitest';
import { type Offsets, pollOf, type SourceTask } from '../../../shared/connect/connector.ts';
import type { RunRequest } from '../../../shared/runtime/run.ts';
import { appendingDestination, owningDestination } from '../../kit/memory-connectors.ts';
import { createRunKit } from '../../kit/run-kit.ts';

/** Two tasks: the first one makes a plan and goes on when the second has done its part of it. */
const first = { name: 'plan' };
const second = { name: 'part' };

const at = (offsets: Offsets<unknown>, partition: { readonly name: string }) => offsets.get(partition) as number;
const committed = (partition: { readonly name: string }, offset: number) => ({ partition, offset });

const planner = (): SourceTask<unknown> => ({
  async poll(offsets) {
    if (at(offsets, first) === undefined)
      return pollOf<unknown>([], { offsets: [committed(first, 1)], caughtUp: false, moved: 1 << 30, wakes: true });
    if (at(offsets, second) === undefined) return pollOf<unknown>([], { caughtUp: true, waits: true });
    const isNew = at(offsets, first) === 1;
    return pollOf<unknown>(isNew ? [{ ...committed(first, 2), topic: 't', value: { key: 'done' } }] : [], {
      caughtUp: true,
    });
  },
  async more(offsets) {
    if (at(offsets, first) === undefined) return true;
    return at(offsets, second) === undefined ? 'waits' : at(offsets, first) === 1;
  },
  close: async () => {},
});

const worker = (): SourceTask<unknown> => ({
  async poll(offsets) {
    if (at(offsets, first) === undefined || at(offsets, second) !== undefined)
      return pollOf<unknown>([], { caughtUp: true, waits: true });
    return pollOf<unknown>([], { offsets: [committed(second, 1)], caughtUp: false, moved: 1 << 30, wakes: true });
  },
  more: async (offsets) => (at(offsets, first) === undefined || at(offsets, second) !== undefined ? 'waits' : true),
  close: async () => {},
});

const sinks = {
  'the state table': () => {
    const destination = appendingDestination();
    return { rows: destination.rows, openSink: async () => destination.sink() };
  },
  'the destination': () => {
    const destination = owningDestination();
    return { rows: destination.rows, openSink: async () => destination.sink() };
  },
};

describe.each(Object.keys(sinks) as (keyof typeof sinks)[])(
  'tasks that wait for each other, offsets in %s',
  (owner) => {
    const start = () => {
      const kit = createRunKit();
      const { rows, openSink } = sinks[owner]();
      const woken: number[] = [];
      const run = (taskId: number, overrides: Partial<RunRequest> = {}) =>
        kit.run({
          taskId,
          openSource: async () => (taskId === 0 ? planner() : worker()),
          openSink,
          wakeOthers: async () => void woken.push(taskId),
          ...overrides,
        });
      return { kit, rows, woken, run };
    };

    it('find nothing, and write nothing, before the other one has committed', async () => {
      const { kit, run } = start();
      expect(await run(1)).toMatchObject({ outcome: 'waiting' });
      expect(kit.writes()).toEqual([]);
    });

    it('wake each other with what they commit, and end in between', async () => {
      const { rows, woken, run } = start();
      expect(await run(0)).toMatchObject({ outcome: 'waiting', batches: 1 });
      expect(woken).toEqual([0]);
      expect(await run(0)).toMatchObject({ outcome: 'waiting', batches: 0 });
      expect(await run(1)).toMatchObject({ outcome: 'waiting', batches: 1 });
      expect(woken).toEqual([0, 1]);
      expect(await run(0)).toMatchObject({ outcome: 'drained', records: 1 });
      expect(rows).toHaveLength(1);
      expect(await run(0)).toMatchObject({ outcome: 'idle' });
    });

    it('end a continuous run too, which does not wake itself', async () => {
      const { kit, run } = start();
      expect(await run(0, { continuous: true })).toMatchObject({ outcome: 'waiting' });
      expect(await run(0, { continuous: true })).toMatchObject({ outcome: 'waiting' });
      expect(kit.writes()).not.toContain('wake');
    });

    it('go on in the same run where the other one has committed meanwhile', async () => {
      const { kit, rows, run } = start();
      const outcomes: string[] = [];
      // The other task does its part at once, and finds this one's lease held.
      const wakeOthers = async () => void outcomes.push((await run(1)).outcome);
      expect(await run(0, { wakeOthers })).toMatchObject({ outcome: 'drained', records: 1 });
      expect(outcomes).toEqual(['waiting']);
      expect(rows).toHaveLength(1);
      expect(kit.writes()).not.toContain('wake');
    });

    it('look anew after the release: what was waited for may have been committed since the last look', async () => {
      const { kit, run } = start();
      let waits = 0;
      const openSource = async (): Promise<SourceTask<unknown>> => {
        const task = planner();
        return {
          ...task,
          async poll(offsets, budget) {
            const poll = await task.poll(offsets, budget);
            if (poll.waits === true && ++waits === 2) await run(1);
            return poll;
          },
        };
      };
      expect(await run(0, { openSource })).toMatchObject({ outcome: 'waiting' });
      expect(kit.writes()).toContain('wake');
      expect(await run(0)).toMatchObject({ outcome: 'drained', records: 1 });
    });
  },
);
