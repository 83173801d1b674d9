import { describe, expect, test } from 'vitest';
import type { RecordInput } from '../../shared/connect/build.ts';
import type { SinkTask } from '../../shared/connect/connector.ts';
import { envelopeSchema } from '../../shared/connect/envelope.ts';
import type { Struct, StructSchema, Value } from '../../shared/connect/schema.ts';
import { nextCommit, putRecords } from './put-records.ts';

const text = { type: 'string' } as const;
const source: StructSchema = {
  type: 'struct',
  fields: ['db', 'table'].map((name) => ({ name, schema: { ...text, optional: true } })),
};
const id = { name: 'id', schema: { type: 'int32' } } as const;
const keySchema: StructSchema = { type: 'struct', fields: [id] };
const valueSchema = envelopeSchema('all', [id, { name: 's', schema: { ...text, optional: true } }], source);

/** A change of a row of `table`; of two tables they may stand in one group. */
const change = (op: 'c' | 'd', table: string | null, key: number): RecordInput => ({
  ...{ topic: 'all', key: { id: key }, keySchema, valueSchema },
  value: {
    ...{
      before: null,
      after: op === 'd' ? null : { id: key, s: `${table}${key}` },
      transaction: null,
      op,
      ts_ms: null,
    },
    source: { db: 'x', table },
  },
});

const tombstone = (key: number): RecordInput => ({ ...change('d', null, key), value: null });

/** How a sink for tables parts a topic of changes of several tables. */
export const describeSourceTable = (
  name: string,
  {
    withSink,
    all,
  }: {
    withSink<T>(config: Struct, work: (task: SinkTask) => Promise<T>): Promise<T>;
    all(sql: string): Promise<Value[][]>;
  },
): void => {
  describe(`${name}: a topic of several tables`, () => {
    test('each change goes to the table that its source says, also where keys are the same', async () => {
      await withSink({ table: `t_\${source.db}_\${source.table}` }, async (task) => {
        const put = async (...records: readonly RecordInput[]) =>
          (await putRecords(task, records, { offsets: [await nextCommit(task)] })).rejected;
        expect(
          await put(
            change('c', 'a', 1),
            change('c', 'a', 2),
            change('c', 'b', 1),
            change('c', 'b', 2),
            change('c', 'a', 3),
          ),
        ).toEqual([]);
        // A tombstone says no table: it goes where its delete went, and by itself nowhere.
        expect(await put(tombstone(3), change('d', 'b', 1), tombstone(1), change('d', 'a', 2), tombstone(2))).toEqual(
          [],
        );
        const flat = { topic: 'all', key: { id: 9 }, value: { id: 9 } };
        expect(await put(change('c', 'b', 4), change('c', null, 5), change('c', 'a', 6), flat)).toMatchObject([
          { index: 1, error: { code: 'RECORD_REJECTED' } },
          { index: 3 },
        ]);
      });
      expect(await all('SELECT id, s FROM t_x_a ORDER BY id')).toEqual([
        [1, 'a1'],
        [3, 'a3'],
        [6, 'a6'],
      ]);
      expect(await all('SELECT id, s FROM t_x_b ORDER BY id')).toEqual([
        [2, 'b2'],
        [4, 'b4'],
      ]);
    });
  });
};
