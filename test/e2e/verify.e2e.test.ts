import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { type Database, useDatabases } from '../kit/database.ts';
import { seeded } from '../kit/seed.ts';
import { envelopeOf, makeWorkplace, messageOf } from '../kit/sluice.ts';
import { until } from '../kit/until.ts';
import { copyPipeline, differencesOf, environmentOf, verifiedOf } from '../kit/verify-pipeline.ts';

const timeout = 500_000;
const equal = { items: [], parts: [] };

const server = useDatabases();

/** Keys of one integer, and of a text and a decimal in an order of their own; the texts would be one to many a collation. */
const makeTables = async (db: Database): Promise<void> => {
  const exact = db.system === 'postgres' ? '' : ' CHARACTER SET utf8mb4 COLLATE utf8mb4_bin';
  await db.run(`CREATE TABLE items (id int PRIMARY KEY, name varchar(40), price decimal(12,2), seen int);
    CREATE TABLE parts (n int, code varchar(20)${exact}, size decimal(8,3), PRIMARY KEY (code, size))`);
  const items = Array.from({ length: 3_000 }, (_, i) => `(${i}, 'item ${i}', ${i}.50, 0)`);
  const parts = Array.from({ length: 600 }, (_, i) => `(${i}, '${['a', 'A', 'ä', 'Z_', 'z'][i % 5]}${i % 7}', ${i}.5)`);
  await db.run(`INSERT INTO items VALUES ${items.join()}; INSERT INTO parts VALUES ${parts.join()}`);
};

/** Writes until it is stopped; rows 100 to 199 are left alone. */
const startWriter = (db: Database, seed: string) => {
  const random = seeded(seed);
  let isOver = false;
  const id = () => random.pick([random.integer(0, 99), random.integer(200, 3_200)]);
  const change = () =>
    random.pick([
      () => `UPDATE items SET seen = seen + 1 WHERE id = ${id()}`,
      () => `UPDATE items SET price = price + 1 WHERE id >= 200 AND id % 100 = ${random.integer(0, 99)}`,
      () => `DELETE FROM items WHERE id = ${id()}`,
      () => `UPDATE parts SET n = n + 1 WHERE size = ${random.integer(100, 599)}.5`,
      () => {
        const one = id();
        return `DELETE FROM items WHERE id = ${one}; INSERT INTO items VALUES (${one}, 'new', 1, 1)`;
      },
    ])!();
  const done = (async () => {
    for (; !isOver; await delay(20)) await db.run(`BEGIN; ${change()}; COMMIT`);
  })();
  return {
    async [Symbol.asyncDispose]() {
      isOver = true;
      await done;
    },
  };
};

const pairs = [
  ['mariadb', 'postgres', 'the log'],
  ['mysql', 'mariadb', 'direct'],
  ['postgres', 'mysql', 'the log'],
  ['postgres', 'postgres', 'direct'],
] as const;

describe.each(pairs)('%s to %s through %s', (from, to, through) => {
  test('what was changed behind its back is found by key and repaired, while a writer runs', { timeout }, async () => {
    await using source = await server(from).database(`${from}_${to}_s`);
    await using sink = await server(to).database(`${from}_${to}_d`);
    await makeTables(source);
    await using place = await makeWorkplace();
    await place.file('p.yaml', copyPipeline(source, sink, ['items', 'parts'], through, `p_${from}_${to}`));
    const env = environmentOf(source, sink);
    const sluice = (...args: string[]) => place.sluice([...args, '--json'], env);
    const early = await sluice('verify', 'p.yaml');
    expect([early.code, envelopeOf(early).result]).toMatchObject([2, { error: { code: 'NOT_FOUND' } }]);

    const ran = await sluice('run', 'p.yaml');
    expect(ran.code, messageOf(ran)).toBe(0);
    const dev = place.start(['dev', 'p.yaml'], env);
    await until(() => dev.output().includes('functions at'), { timeoutMs: 120_000 });
    {
      await using _ = startWriter(source, `verify ${from} ${to}`);
      const calm = await sluice('verify', 'p.yaml');
      expect(differencesOf(calm), messageOf(calm)).toEqual(equal);
      expect(calm.code).toBe(0);

      await sink.run(`UPDATE items SET price = 0, name = NULL WHERE id = 100; DELETE FROM items WHERE id = 101;
        INSERT INTO items (id, name) VALUES (-5, 'behind'); DELETE FROM items WHERE id = 0;
        UPDATE parts SET n = -1 WHERE code = 'A1' AND size = 1.5; DELETE FROM parts WHERE code = 'a5' AND size = 5.5;
        INSERT INTO parts (n, code, size) VALUES (1, 'nobody', 7.25)`);
      const found = await sluice('verify', 'p.yaml');
      const { items, parts } = differencesOf(found);
      // Row 0 is written all the time.
      const withoutHot = items!.filter((one) => !/ 0( |$)/.test(one));
      expect(withoutHot, messageOf(found)).toEqual(['different 100 name,price', 'extra -5', 'missing 101']);
      expect(parts).toEqual(['different A1/1.5 n', 'extra nobody/7.25', 'missing a5/5.5']);
      expect(found.code).toBe(1);
      const told = await sluice('verify', 'p.yaml', '--values', '--table', verifiedOf(found)[0]!.table);
      expect(verifiedOf(told)[0]!.differences).toContainEqual({
        kind: 'different',
        key: ['100'],
        columns: ['name', 'price'],
        values: { name: { source: 'item 100', destination: null }, price: { source: '100.5', destination: '0' } },
      });

      const repaired = await sluice('verify', 'p.yaml', '--repair');
      expect(differencesOf(repaired), messageOf(repaired)).toEqual(equal);
      expect(repaired.code).toBe(0);
      expect(verifiedOf(repaired).map((table) => table.repaired)).toMatchObject([expect.any(Number), 3]);
    }
    dev.kill('SIGINT');
    await dev.ended;
    // What was on its way arrives first: rows are counted as they are found.
    const rest = await sluice('run', 'p.yaml');
    expect(rest.code, messageOf(rest)).toBe(0);
    const after = await sluice('verify', 'p.yaml');
    expect(differencesOf(after), messageOf(after)).toEqual(equal);
    const [[count]] = (await source.rows('SELECT count(*) FROM items')) as [[string]];
    expect(verifiedOf(after)[0]!.rows).toEqual({ source: Number(count), destination: Number(count) });
  });
});
