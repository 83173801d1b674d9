import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { expect, test } from 'vitest';
import { seeded } from '../../kit/seed.ts';
import { useCdc } from './cdc-fixture.ts';
import { createRuns } from './snapshot-runs.ts';

const { run, all, capture, schema, server } = useCdc();

const keys = 600;
const tables: {
  readonly [name: string]: {
    readonly key: string;
    readonly bounds: readonly (readonly string[])[];
    readonly isStrict: boolean;
  };
} = {
  // Of integers the order is known: a change that its row has already must not come, nor one that is missing.
  numbers: { key: 'id bigint PRIMARY KEY', bounds: [['150'], ['300'], ['450']], isStrict: true },
  // Some ranges begin in the midst of an integer's rows.
  pairs: {
    key: 'id int, part text, PRIMARY KEY (id, part)',
    bounds: [
      ['200', 'b'],
      ['400', 'a'],
    ],
    isStrict: false,
  },
  names: { key: 'id text COLLATE "und-x-icu" PRIMARY KEY', bounds: [['å3'], ['B2'], ['z4']], isStrict: false },
};

/** A transaction of several changes, of which some move a row to another key. */
const changesOf = (table: string, random: ReturnType<typeof seeded>) => {
  const number = () => random.integer(1, keys);
  const id = (n: number) => (table === 'names' ? `'${['å', 'a', 'B', 'b', 'z', 'Z'][n % 6]}${n}'` : String(n));
  const [columns, value] =
    table === 'pairs' ? ['id, part, n', (n: number) => `${n}, '${'abc'[n % 3]}'`] : ['id, n', (n: number) => id(n)];
  const statements = [
    () => `INSERT INTO ${table} (${columns}) VALUES (${value(number())}, ${number()}) ON CONFLICT DO NOTHING`,
    () => `INSERT INTO ${table} (${columns}) VALUES (${value(number())}, ${number()}) ON CONFLICT DO NOTHING`,
    () => `UPDATE ${table} SET n = n + 1 WHERE n % 50 = ${random.integer(0, 49)}`,
    () => `UPDATE ${table} SET n = n + 1 WHERE id = ${id(number())}`,
    () => `DELETE FROM ${table} WHERE id = ${id(number())}`,
    () => {
      const [from, to] = [id(number()), id(number())];
      return `UPDATE ${table} SET id = ${to} WHERE id = ${from} AND NOT EXISTS (SELECT FROM ${table} WHERE id = ${to})`;
    },
  ];
  return Array.from({ length: random.integer(1, 5) }, () => random.pick(statements)!());
};

test.each(Object.keys(tables))(
  '%s that are written all the time are the same, however runs of three tasks are cut',
  {
    timeout: 120_000,
  },
  async (table) => {
    const { key, bounds, isStrict } = tables[table]!;
    const random = seeded(`snapshot ${table}`);
    await run(`CREATE TABLE ${table} (n int, ${key})`);
    for (const change of Array.from({ length: 300 }, () => changesOf(table, random)).flat()) await run(change);
    const { config } = await capture([table], { snapshotMode: 'initial' });
    const runs = createRuns(config, { tasks: 3, isStrict });
    await runs.run({ polls: 1 });
    const system = (await all('SELECT system_identifier::text FROM pg_control_system()'))[0]![0];
    runs.set({ server: 'shop', table: `${schema()}.${table}` }, { server: system, plan: 1, bounds, rows: 1 });

    let isWriting = true;
    let written = 0;
    const writers = [0, 1, 2].map(async () => {
      const db = new pg.Client(server().url);
      await db.connect();
      await db.query(`SET search_path = ${schema()}`);
      while (isWriting) {
        await db.query('BEGIN');
        for (const change of changesOf(table, random)) {
          // Two writers may want each other's rows, or the same key.
          const failed = await db.query(change).then(
            () => false,
            () => true,
          );
          if (failed) break;
          await delay(random.integer(0, 10));
        }
        await db.query(random.integer(0, 9) === 0 ? 'ROLLBACK' : 'COMMIT');
        written++;
      }
      await db.end();
    });

    const changes = () => runs.told.filter((one) => !one.startsWith('r ')).length;
    const readers = [0, 1, 2].map(async (taskId) => {
      for (;;) {
        const ended = await runs.run({
          taskId,
          polls: random.integer(1, 4),
          maxRecords: random.pick([3, 20, 400])!,
          keep: async () => {
            await delay(random.integer(0, 10));
            return random.integer(0, 4) > 0;
          },
        });
        // The others have nothing more to do; the first one reads changes until the writers have stopped.
        if (ended === 'waits' && taskId > 0) return;
        if (ended === 'waits') await delay(20);
        if (ended === 'caught up' && !isWriting) return;
        if (changes() > 500) isWriting = false;
      }
    });
    await Promise.all([...readers, ...writers]);
    expect(await runs.run({ maxRecords: 5_000 })).toBe('caught up');

    expect(written).toBeGreaterThan(50);
    const rows = async () => (await run(`SELECT * FROM ${table}`)).rows as object[];
    const sorted = (some: readonly object[]) =>
      some
        .map((row) =>
          JSON.stringify(
            Object.entries(row)
              .map(([name, value]) => [name, String(value)])
              .sort(),
          ),
        )
        .sort();
    expect(sorted(runs.rows(`shop.${schema()}.${table}`))).toEqual(sorted(await rows()));
    expect(changes()).toBeGreaterThan(500);
  },
);
