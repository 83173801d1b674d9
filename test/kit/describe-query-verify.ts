import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { QueryOffset } from '../../shared/connect/query-config.ts';
import type { Verification, VerifiedTable } from '../../shared/connect/verify.ts';
import { answerTo } from '../../shared/verify/answer.ts';
import { type QueryServer, readerOf, ways } from './query-server.ts';
import type { OffsetMap } from './source-runner.ts';

const signal = new AbortController().signal;

/** What of a source's rows `sluice verify` looks at, and whether offsets are behind them. */
export const describeQueryVerify = (name: string, server: QueryServer): void => {
  const { run } = server;

  /** The one table of a config. */
  const verifying = async <T>(config: object, use: (asked: Asked) => Promise<T>): Promise<T> => {
    const parsed = server.source.config.parse({
      ...server.address(),
      topicPrefix: 'shop',
      timestampDelayIntervalMs: 0,
      ...config,
    });
    const self = { connector: 'verify', incarnation: 'i1', deployment: 'test', taskId: 0, tasks: 1 };
    const verification = await server.source.verify!({ ...self, config: parsed, signal });
    try {
      const [table] = (await verification.tables!()) as [VerifiedTable];
      return await use(askedOf(verification, table));
    } finally {
      await verification.close();
    }
  };
  const askedOf = (verification: Verification, table: VerifiedTable) => ({
    async rows(): Promise<number> {
      const { buckets } = (await answerTo({ step: 'sum', table }, verification, signal)) as {
        readonly buckets: readonly (readonly [number, number, string])[];
      };
      return buckets.reduce((sum, [, count]) => sum + count, 0);
    },
    position: async () => (await verification.open(table)).position!(),
    hasPassed: async (position: unknown, offsets: OffsetMap) =>
      verification.hasPassed!({ table, position }, [...offsets.values()]),
  });
  type Asked = ReturnType<typeof askedOf>;

  const threeRows = async () => {
    const schema = await server.schema();
    await run(`CREATE TABLE t (id int PRIMARY KEY, at ${server.instant}); ${insert(1, 2, 3)}`);
    return `${schema}.t`;
  };
  const insert = (...ids: readonly number[]) =>
    `INSERT INTO t VALUES ${ids.map((id) => `(${id}, '2024-01-01 00:00:0${id}.5')`).join()}`;

  describe(`verify of queries of ${name}`, () => {
    test.each(ways)('$mode: a window that is open is behind no row before its end is told', async (way) => {
      const config = { tables: [await threeRows()], ...way, runs: true };
      const { withTask, readAll } = readerOf(server, config);
      const read = (from?: OffsetMap) => withTask((task) => readAll(task, from));
      await verifying(config, async ({ position, hasPassed }) => {
        const first = await read();
        const three = await position();
        // It begins, has each of the rows, and ends.
        for (let cut = 0; cut < 5; cut++) expect([cut, await hasPassed(three, first.upTo(cut))]).toEqual([cut, 'no']);
        expect(await hasPassed(three, first.offsets)).toBe('yes');
        await run(insert(4));
        const four = await position();
        const rest = await read(first.upTo(2));
        expect(await hasPassed(three, rest.offsets)).toBe('yes');
        expect(await hasPassed(four, rest.offsets), 'it came after the window was begun').toBe('no');
        expect(await hasPassed(four, (await read(rest.offsets)).offsets)).toBe('yes');
      });
    });

    test('rows without a number are none that the source reads', async () => {
      const schema = await server.schema();
      await run('CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, NULL), (2, 7), (3, NULL)');
      const config = { tables: [`${schema}.t`], mode: 'incrementing', incrementingColumn: 'n', runs: true };
      const { withTask, readAll } = readerOf(server, config);
      const { offsets } = await withTask((task) => readAll(task));
      await verifying(config, async ({ rows, position, hasPassed }) => {
        expect(await rows()).toBe(1);
        expect(await hasPassed(await position(), offsets)).toBe('yes');
      });
    });

    describe('bulk, where ends are told by the clock', () => {
      beforeEach(() => {
        vi.useFakeTimers({ toFake: ['Date'] });
      });
      afterEach(() => {
        vi.useRealTimers();
      });
      const later = (ms: number) => vi.setSystemTime(Date.now() + ms);

      test.each([{ runs: false }, { runs: true }])(
        'by several tasks ($runs) passes a place when all ranges are read and the table has ended',
        async ({ runs }) => {
          const config = { tables: [await threeRows()], mode: 'bulk', runs };
          const offsets: OffsetMap = new Map();
          const tasks = [0, 1, 2].map((taskId) => readerOf(server, config, { taskId, tasks: 3 }));
          /** Until the task has nothing to do, or has ended the table; `look` sees each of its other commits. */
          const work = ({ withTask, pollOnce, advance }: (typeof tasks)[number], look: () => Promise<void>) =>
            withTask(async (task) => {
              for (;;) {
                const poll = await pollOnce(task, offsets);
                advance(offsets, poll.offsets);
                if ([...offsets.values()].some(isEnd)) return true;
                if (poll.offsets.length > 0) await look();
                if (poll.caughtUp) return false;
              }
            });
          /** As the first task begins a table, but in ranges that are as small as its rows. */
          const begin = () =>
            tasks[0]!.withTask(async (task) => {
              const { offsets: begun } = await tasks[0]!.pollOnce(task, offsets);
              const [{ partition, offset }] = begun as [{ partition: never; offset: QueryOffset }];
              tasks[0]!.advance(offsets, [{ partition, offset: { ...offset, bounds: [['1'], ['2']] } }]);
            });
          await verifying(config, async ({ rows, position, hasPassed }) => {
            expect(await rows()).toBe(3);
            for (let reading = 1; reading <= 2; reading++) {
              const place = await position();
              let looks = 0;
              const look = async () => {
                later(10);
                expect([++looks, await hasPassed(place, offsets)]).toEqual([looks, 'no']);
              };
              later(31_000);
              // What had ended before is behind no place that is looked at later.
              await look();
              await begin();
              await look();
              let isEnded = false;
              for (let turn = 0; !isEnded && turn < 9; turn++) isEnded = await work(tasks[turn % 3]!, look);
              expect(isEnded).toBe(true);
              expect(looks).toBeGreaterThanOrEqual(5);
              expect(await hasPassed(place, offsets)).toBe('yes');
              later(10);
              expect(await hasPassed(await position(), offsets)).toBe('no');
            }
          });
        },
      );
    });
  });
};

/** Of the table's own offset, that all of it is read. */
const isEnd = ({ partition, offset }: { readonly partition: object; readonly offset: unknown }): boolean =>
  !('range' in partition) && (offset as QueryOffset).endedMs !== undefined;
