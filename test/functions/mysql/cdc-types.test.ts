import { describe, expect, test } from 'vitest';
import type { Struct, StructSchema } from '../../../shared/connect/schema.ts';
import { createRunner, type OffsetMap, type SourceFixture } from '../../kit/source-runner.ts';
import { useMysql } from './cdc-fixture.ts';
import { plain, values } from './type-values.ts';

describe.each(['mariadb', 'mysql'] as const)('types of %s', (flavour) => {
  const { run, database, fixture } = useMysql(flavour);

  test('a value is the same, whether it is read from the table or from the binlog, and so is its schema', async () => {
    const name = await database();
    // MariaDB's json is text.
    const kept = values.filter(([type]) => flavour === 'mysql' || type !== 'json');
    const columns = kept.map(([type], i) => `c${i} ${type}${type.endsWith('NULL') ? '' : ' NULL'}`);
    await run(`CREATE TABLE t (id int PRIMARY KEY, ${columns.join(', ')}) CHARSET utf8mb4 ROW_FORMAT=DYNAMIC`);
    await run(`INSERT INTO t VALUES (1, ${kept.map(([, literal]) => literal).join(', ')})`);
    await run('INSERT INTO t (id) VALUES (2)');
    const read = async (snapshotMode: string) => {
      const of = { ...fixture({ tables: [`${name}.t`], snapshotMode }), expected: [] } as SourceFixture;
      const { withTask, pollOnce, advance } = createRunner(of);
      return withTask(async (task) => {
        const offsets: OffsetMap = new Map();
        // Before the records the place of the changes comes alone, and the plan.
        for (;;) {
          const { batch, rejected = [], offsets: moved } = await pollOnce(task, offsets);
          expect(rejected).toEqual([]);
          if (batch.count > 0) return [...batch];
          advance(offsets, moved);
        }
      });
    };
    const nulls = Object.fromEntries(kept.map((_, i) => [`c${i}`, null]));
    const expected = Object.fromEntries(kept.map(([, , value], i) => [`c${i}`, value]));
    const rows = await read('initial');
    const changes = await read('never');
    for (const records of [rows, changes])
      expect(records.map(({ value }) => plain((value as Struct).after as Struct))).toEqual([
        plain({ id: 1, ...expected } as Struct),
        { id: 2, ...nulls },
      ]);
    const [row, change] = [rows, changes].map(([record]) => record!.valueSchema as StructSchema);
    expect(change).toEqual(row);
  });
});
