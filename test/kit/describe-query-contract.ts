import { afterEach, beforeEach, describe, vi } from 'vitest';
import { describeSource } from './describe-source.ts';
import { type QueryServer, readerOf } from './query-server.ts';
import { type SourceFixture, textOf } from './source-runner.ts';

/** The contract of sources, for each way to read by queries. */
export const describeQueryContract = (name: string, server: QueryServer): void => {
  const at = (second: number) => `'2024-02-29 12:00:${String(second).padStart(2, '0')}.5'`;
  const fixture = (make: (schema: string) => object, grows: boolean) => async () => {
    const schema = await server.schema();
    await server.run(`CREATE TABLE a (id int PRIMARY KEY, name varchar(20), at ${server.instant}, made ${server.wallClock});
      CREATE TABLE b (name varchar(20), n decimal(10,2), at ${server.instant}, made ${server.wallClock}, PRIMARY KEY (name, n));
      CREATE TABLE nokey (name varchar(20), at ${server.instant}); CREATE TABLE other (id int PRIMARY KEY, at ${server.instant});
      INSERT INTO a VALUES ${[7, 3, 9, 1, 5, 2, 8].map((id) => `(${id}, 'a${id}', ${at(id >> 1)}, NULL)`).join()};
      INSERT INTO b VALUES ${[1, 2, 3, 4].map((n) => `('b', ${n}.5, NULL, ${at(n >> 1)})`).join()};
      INSERT INTO nokey VALUES ${Array.from({ length: 12 }, (_, n) => `('n${n}', ${at(n >> 2)})`).join()};
      INSERT INTO other VALUES (1, ${at(1)})`);
    const config = make(schema);
    const { withTask, readAll } = readerOf(server, config);
    const all = async () => (await withTask((task) => readAll(task))).records;
    const expected = await all();
    let next = 30;
    return {
      source: server.source,
      config: { ...server.address(), topicPrefix: 'shop', timestampDelayIntervalMs: 0, ...config },
      expected,
      ...(grows
        ? {
            more: async () => {
              const before = (await all()).map(textOf);
              await server.run(`INSERT INTO a VALUES (${next}, 'more', ${at(next)}, NULL);
                INSERT INTO nokey VALUES ('more', ${at(next)})`);
              next++;
              return (await all()).filter((record) => !before.includes(textOf(record)));
            },
          }
        : {}),
    } as unknown as SourceFixture as never;
  };
  describe(`queries of ${name}`, () => {
    const both = (schema: string) => ({ tables: [`${schema}.a`, `${schema}.b`] });
    describeSource(
      'by timestamp',
      fixture((schema) => ({ ...both(schema), mode: 'timestamp', timestampColumns: ['at', 'made'] }), true),
    );
    describeSource(
      'by timestamp, without a key',
      fixture((schema) => ({ tables: [`${schema}.nokey`], mode: 'timestamp', timestampColumns: ['at'] }), true),
    );
    describeSource(
      'by timestamp, in runs',
      fixture(
        (schema) => ({ ...both(schema), mode: 'timestamp', timestampColumns: ['at', 'made'], runs: true }),
        false,
      ),
    );
    describe('at one moment, so that bulk rests', () => {
      beforeEach(() => {
        vi.useFakeTimers({ toFake: ['Date'] });
      });
      afterEach(() => {
        vi.useRealTimers();
      });
      describeSource(
        'in bulk',
        fixture((schema) => ({ ...both(schema), mode: 'bulk' }), false),
      );
      describeSource(
        'in bulk, without a key',
        fixture((schema) => ({ tables: [`${schema}.nokey`], mode: 'bulk' }), false),
      );
    });
    describeSource(
      'by timestamp and number, of a query',
      fixture(
        (schema) => ({
          query: `SELECT a.id, a.name, x.name AS other, a.at FROM ${schema}.a JOIN ${schema}.a x ON x.id = a.id UNION ALL
            SELECT 100, 'x', 'y', at FROM ${schema}.other UNION ALL SELECT 101, 'x', 'y', at FROM ${schema}.other UNION ALL
            SELECT 102, 'x', 'y', at FROM ${schema}.other -- all of them`,
          topic: 'joined',
          mode: 'timestamp+incrementing',
          ...{ timestampColumns: ['at'], incrementingColumn: 'id', keyFields: ['id'] },
        }),
        true,
      ),
    );
  });
};
