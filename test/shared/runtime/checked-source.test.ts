import { describe, expect, it } from 'vitest';
import * as z from 'zod';
import { defineSource, type Offsets, pollOf } from '../../../shared/connect/connector.ts';
import { openChecked } from '../../../shared/runtime/checked-source.ts';
import { createLedger } from '../../../shared/runtime/ledger.ts';

/** A source whose offset is a line number, and which tells what offsets it saw. */
const open = async () => {
  const seen: unknown[] = [];
  const look = (offsets: Offsets<{ line: number }>) => {
    seen.push(offsets.get({ file: 'a' }), [...offsets.all()]);
  };
  const source = defineSource({
    type: 'lines',
    config: z.strictObject({}),
    offset: z.strictObject({ line: z.number() }),
    replay: 'exact',
    topics: () => [],
    open: async () => ({
      async poll(offsets) {
        look(offsets);
        return pollOf<{ line: number }>([], { caughtUp: true });
      },
      async more(offsets) {
        look(offsets);
        return false;
      },
      close: async () => {},
    }),
  });
  const context = { connector: 'c', incarnation: 'i', deployment: 'd', config: {}, taskId: 0, tasks: 1 };
  const signal = new AbortController().signal;
  const task = await openChecked(source as never, { ...context, signal });
  const ask = async (offset: unknown) => {
    const partition = { file: 'a' };
    const { polled } = createLedger([{ key: '{"file":"a"}', partition, offset, seq: 1, writeId: 'w' }]);
    await task.more!(polled);
    await task.poll(polled, { maxRecords: 1, maxBytes: 1, signal });
    return seen;
  };
  return ask;
};

describe('a source', () => {
  it('gets offsets that fit its schema', async () => {
    const all = [{ partition: { file: 'a' }, offset: { line: 3 } }];
    expect(await (await open())({ line: 3 })).toEqual([{ line: 3 }, all, { line: 3 }, all]);
  });

  it('sees no offset where an operator set it to null: it starts from the beginning', async () => {
    expect(await (await open())(null)).toEqual([undefined, [], undefined, []]);
  });

  it('never sees an offset of a newer release (invariant 11)', async () => {
    const ask = await open();
    await expect(ask({ line: 3, column: 4 })).rejects.toMatchObject({ code: 'SHAPE_TOO_NEW' });
    await expect(ask({ line: 3, column: 4 })).rejects.toThrow('the offset of {"file":"a"} is {"line":3,"column":4}');
  });
});
