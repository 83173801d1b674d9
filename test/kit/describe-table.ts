import { describe, expect, test } from 'vitest';
import { type Attribute, type Item, limits, type Table, type Write } from '../../shared/state/table.ts';

const item = (sk: string | number, attributes: Record<string, Attribute> = {}): Item => ({
  pk: 'p',
  sk: String(sk),
  ...attributes,
});
const text = (bytes: number) => 'x'.repeat(bytes);
const sks = (items: readonly Item[]) => items.map(({ sk }) => sk);

/** The contract of `Table`. `makeTable` gives an empty one each time. */
export const describeTable = (name: string, makeTable: () => Promise<Table>): void => {
  describe(`${name}: the table contract`, () => {
    const filled = async (...items: readonly Item[]) => {
      const table = await makeTable();
      for (const one of items) await table.write([{ put: one }]);
      return table;
    };

    describe('conditions', () => {
      const stored = item(1, { n: 1, s: '', b: false, bytes: Uint8Array.of(1, 2), list: [1, { deep: 'x' }], map: {} });
      test.each<[string, Write['when'], boolean]>([
        ['none', undefined, true],
        ['absent', 'absent', false],
        ['the item exists', {}, true],
        ['a number that is equal', { n: 1 }, true],
        ['a number that is not', { n: 2 }, false],
        ['a number and its text', { n: '1' }, false],
        ['an empty text', { s: '' }, true],
        ['false', { b: false }, true],
        ['false against true', { b: true }, false],
        ['equal bytes', { bytes: Uint8Array.of(1, 2) }, true],
        ['other bytes', { bytes: Uint8Array.of(1, 3) }, false],
        ['an equal list', { list: [1, { deep: 'x' }] }, true],
        ['another list', { list: [1, { deep: 'y' }] }, false],
        ['an empty map', { map: {} }, true],
        ['an attribute that is not there', { other: undefined }, true],
        ['an attribute that is there', { n: undefined }, false],
        ['several that hold', { n: 1, b: false, other: undefined }, true],
        ['several of which one does not', { n: 1, b: true }, false],
      ])('on an item: %s', async (_title, when, ok) => {
        const alone = await filled(stored);
        const withOther = await filled(stored);
        const condition = when === undefined ? {} : { when };
        const write: Write = { put: item(1, { n: 9 }), ...condition };
        expect((await alone.write([write])).ok).toBe(ok);
        expect((await withOther.write([write, { put: item(2) }])).ok).toBe(ok);
        for (const table of [alone, withOther])
          expect(await table.get(stored)).toEqual(ok ? item(1, { n: 9 }) : stored);
      });

      test.each<[string, Write['when'], boolean]>([
        ['none', undefined, true],
        ['absent', 'absent', true],
        ['the item exists', {}, false],
        ['equality', { n: 1 }, false],
        ['only an absent attribute', { n: undefined }, false],
      ])('where there is no item: %s', async (_title, when, ok) => {
        for (const others of [[], [{ put: item(2) }]] as Write[][])
          for (const write of [{ put: item(1) }, { update: item(1), set: { a: 1 } }, { delete: item(1) }]) {
            const table = await makeTable();
            expect((await table.write([{ ...write, ...(when === undefined ? {} : { when }) }, ...others])).ok).toBe(ok);
          }
      });

      test('a failed write tells its index and what it found, for one write and for several', async () => {
        const table = await filled(item(1, { n: 1 }), item(3, { n: 3 }));
        expect(await table.write([{ put: item(1), when: 'absent' }])).toEqual({
          ok: false,
          failed: [{ index: 0, found: item(1, { n: 1 }) }],
        });
        expect(await table.write([{ delete: item(9), when: { n: 1 } }])).toEqual({ ok: false, failed: [{ index: 0 }] });
        const several = await table.write([
          { put: item(0) },
          { put: item(1), when: 'absent' },
          { update: item(2), set: { n: 2 }, when: { n: 1 } },
          { delete: item(3), when: { n: 4 } },
          { delete: item(4), when: 'absent' },
        ]);
        expect(several).toEqual({
          ok: false,
          failed: [{ index: 1, found: item(1, { n: 1 }) }, { index: 2 }, { index: 3, found: item(3, { n: 3 }) }],
        });
      });
    });

    describe('writes', () => {
      test('all or nothing', async () => {
        const table = await filled(item(1, { n: 1 }));
        const result = await table.write([
          { put: item(2) },
          { update: item(3), set: { a: 1 } },
          { delete: item(1) },
          { put: item(4), when: {} },
        ]);
        expect(result.ok).toBe(false);
        expect(await table.query('p')).toEqual([item(1, { n: 1 })]);
      });

      test('update sets, removes and makes', async () => {
        const table = await filled(item(1, { keep: 1, change: 1, remove: 1 }));
        await table.write([{ update: item(1), set: { change: 2, remove: undefined, create: [3], none: undefined } }]);
        expect(await table.get(item(1))).toEqual(item(1, { keep: 1, change: 2, create: [3] }));
        await table.write([
          { update: item(2), set: { a: 1 } },
          { update: item(3), set: { b: 1 }, when: 'absent' },
        ]);
        expect(await table.query('p', { from: '2' })).toEqual([item(2, { a: 1 }), item(3, { b: 1 })]);
      });

      test('put replaces the whole item, delete removes it and may be repeated', async () => {
        const table = await filled(item(1, { a: 1, b: 1 }));
        await table.write([{ put: item(1, { c: 1 }) }]);
        expect(await table.get(item(1))).toEqual(item(1, { c: 1 }));
        for (const _ of [1, 2]) expect(await table.write([{ delete: item(1) }])).toEqual({ ok: true });
        expect(await table.get(item(1))).toBeUndefined();
      });

      test('an item keeps its values', async () => {
        const values = item('ключ 😀', {
          empty: '',
          unicode: 'é ☃ 😀 \u0000 \u{10ffff}',
          zero: 0,
          negative: -1.5,
          small: 1e-7,
          big: Number.MAX_SAFE_INTEGER,
          yes: true,
          no: false,
          bytes: Uint8Array.of(0, 255, 128),
          noBytes: new Uint8Array(0),
          list: [1, '', [], {}, [{ deep: [Uint8Array.of(7)] }]],
          map: { a: { b: { c: [false, 'x'] } }, '': 1, 'with.dot and "quotes"': 2, __proto: 3 },
        });
        const table = await filled(values);
        await table.write([{ update: item('updated'), set: { map: values.map!, bytes: values.bytes! } }]);
        expect(await table.get(values)).toEqual(values);
        expect(await table.getMany([values, item('updated')])).toEqual([
          values,
          item('updated', { map: values.map!, bytes: values.bytes! }),
        ]);
      });

      test('what is written is a copy, and so is what is read', async () => {
        const bytes = Uint8Array.of(1);
        const table = await filled(item(1, { bytes }));
        bytes[0] = 9;
        const read = await table.get(item(1));
        (read!.bytes as Uint8Array)[0] = 8;
        expect(await table.get(item(1))).toEqual(item(1, { bytes: Uint8Array.of(1) }));
      });

      test('attributes may have reserved names', async () => {
        const table = await filled();
        const write = { update: item(1), set: { name: 'n', size: 1, 'a#b': 2, next: 3 }, when: { status: undefined } };
        expect((await table.write([write])).ok).toBe(false);
        await table.write([{ put: item(1) }]);
        expect((await table.write([write])).ok).toBe(true);
        expect(await table.get(item(1))).toEqual(item(1, { name: 'n', size: 1, 'a#b': 2, next: 3 }));
      });

      test('no writes are none', async () => {
        expect(await (await makeTable()).write([])).toEqual({ ok: true });
      });
    });

    describe('limits', () => {
      const refused = async (writes: readonly Write[], code: string) => {
        const table = await filled(item('old', { x: text(300_000) }));
        await expect(table.write(writes)).rejects.toMatchObject({ code, retriable: false });
        expect(sks(await table.query('p'))).toEqual(['old']);
        expect(Object.keys((await table.get(item('old')))!)).toHaveLength(3);
      };

      test('100 writes pass, 101 are TOO_LARGE', async () => {
        const writes = Array.from({ length: 101 }, (_, i) => ({ put: item(`n${i}`) }));
        const table = await makeTable();
        expect(await table.write(writes.slice(0, limits.writes))).toEqual({ ok: true });
        await refused(writes, 'TOO_LARGE');
      });

      test('an item over 400 KB is TOO_LARGE', async () => {
        const big = { put: item('big', { x: text(limits.itemBytes) }) };
        await refused([big], 'TOO_LARGE');
        await refused([big, { put: item(2) }], 'TOO_LARGE');
        await filled(item('nearly', { x: text(limits.itemBytes - 100) }));
      });

      test('an update that makes an item too large is TOO_LARGE', async () => {
        const grow = { update: item('old'), set: { y: text(200_000) } };
        await refused([grow], 'TOO_LARGE');
        await refused([grow, { put: item(2) }], 'TOO_LARGE');
      });

      test('a transaction over 4 MB is TOO_LARGE', async () => {
        const writes = Array.from({ length: 11 }, (_, i) => ({ put: item(`n${i}`, { x: text(390_000) }) }));
        const table = await makeTable();
        expect(await table.write(writes.slice(0, 10))).toEqual({ ok: true });
        await refused(writes, 'TOO_LARGE');
      });

      test('an item written twice in one transaction is refused', async () => {
        await refused([{ put: item(1) }, { delete: item(1) }], 'UNEXPECTED');
      });
    });

    describe('reads', () => {
      test('getMany answers in the order asked, with gaps', async () => {
        const table = await makeTable();
        const items = Array.from({ length: 100 }, (_, i) => item(i, { i }));
        await table.write(items.map((put) => ({ put })));
        const keys = Array.from({ length: 100 }, (_, i) => item((i * 37) % 150));
        const found = await table.getMany(keys);
        expect(found).toEqual(keys.map(({ sk }) => (Number(sk) < 100 ? item(sk, { i: Number(sk) }) : undefined)));
        expect(await table.getMany([])).toEqual([]);
      });

      test('getMany gets over 1 MB', async () => {
        const items = Array.from({ length: 30 }, (_, i) => item(i, { x: text(100_000 + i) }));
        const table = await filled(...items);
        const found = await table.getMany(items.toReversed());
        expect(found.map((one) => (one!.x as string).length)).toEqual(items.toReversed().map((_, i) => 100_029 - i));
      });

      test('query is in the order of the bytes of sk, and of one pk', async () => {
        const ordered = [' ', '10', '2', 'A', 'a', 'a#', 'aa', 'é', '\uffff', '😀'];
        const table = await filled(
          ...ordered.toReversed().map((sk) => item(sk)),
          { pk: 'p2', sk: '5' },
          { pk: 'P', sk: '5' },
        );
        expect(sks(await table.query('p'))).toEqual(ordered);
        expect(sks(await table.query('p', { descending: true }))).toEqual(ordered.toReversed());
        expect(await table.query('nothing')).toEqual([]);
      });

      test('bounds are inclusive; limit and descending go together', async () => {
        const table = await filled(...[1, 2, 3, 4, 5].map((sk) => item(sk)));
        expect(sks(await table.query('p', { from: '2', to: '4' }))).toEqual(['2', '3', '4']);
        expect(sks(await table.query('p', { from: '3' }))).toEqual(['3', '4', '5']);
        expect(sks(await table.query('p', { to: '3' }))).toEqual(['1', '2', '3']);
        expect(sks(await table.query('p', { from: '2', limit: 2 }))).toEqual(['2', '3']);
        expect(sks(await table.query('p', { to: '4', limit: 2, descending: true }))).toEqual(['4', '3']);
        expect(sks(await table.query('p', { from: '6' }))).toEqual([]);
        expect(sks(await table.query('p', { limit: 9 }))).toHaveLength(5);
      });

      test('query pages over 1 MB, also to a limit and backwards', async () => {
        const names = Array.from({ length: 12 }, (_, i) => String(i).padStart(2, '0'));
        const table = await filled(...names.map((sk) => item(sk, { x: text(300_000) })));
        expect(sks(await table.query('p'))).toEqual(names);
        expect(sks(await table.query('p', { limit: 10 }))).toEqual(names.slice(0, 10));
        expect(sks(await table.query('p', { descending: true, limit: 7 }))).toEqual(names.toReversed().slice(0, 7));
      });

      test('names lists the rows of a kind', async () => {
        const named = (kind: string, name: string): Item => ({ pk: `${kind}#${name}`, sk: 'X', kind, name });
        const table = await filled(
          named('topic', 'b'),
          named('topic', 'a'),
          named('connector', 'c'),
          item(1, { name: 'x' }),
        );
        expect(await table.names('topic')).toEqual(['a', 'b']);
        expect(await table.names('connector')).toEqual(['c']);
        await table.write([{ delete: named('topic', 'a') }]);
        expect(await table.names('topic')).toEqual(['b']);
      });

      test('a read sees every write that ended before it', async () => {
        const table = await makeTable();
        for (let n = 1; n <= 25; n++) {
          await table.write([{ put: item(1, { n }) }, { update: item(2), set: { n } }]);
          const [one, two, all] = await Promise.all([table.get(item(1)), table.getMany([item(2)]), table.query('p')]);
          expect([one!.n, two[0]!.n, ...all.map((found) => found.n)]).toEqual([n, n, n, n]);
        }
      });
    });

    describe('concurrency', () => {
      test.each([1, 2])('compare-and-set of %i items loses no increment', async (items) => {
        const table = await filled(item(0, { n: 0 }), item(1, { n: 0 }));
        const increment = async (): Promise<void> => {
          for (;;) {
            const { n } = (await table.get(item(0)))!;
            const writes = Array.from({ length: items }, (_, i) => ({
              update: item(i),
              set: { n: Number(n) + 1 },
              when: { n: n! },
            }));
            if ((await table.write(writes)).ok) return;
          }
        };
        await Promise.all(Array.from({ length: 12 }, increment));
        expect((await table.get(item(0)))!.n).toBe(12);
        expect((await table.get(item(1)))!.n).toBe(items === 2 ? 12 : 0);
      });

      test('of many that make one item, one does', async () => {
        const table = await makeTable();
        const results = await Promise.all(
          Array.from({ length: 8 }, (_, i) =>
            table.write([{ put: item(1, { i }), when: 'absent' }, { put: item(`x${i}`) }]),
          ),
        );
        expect(results.filter(({ ok }) => ok)).toHaveLength(1);
        expect(await table.query('p')).toHaveLength(2);
      });
    });
  });
};
