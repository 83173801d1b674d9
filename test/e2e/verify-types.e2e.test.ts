import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { values } from '../functions/mysql/type-values.ts';
import { extra, types } from '../functions/postgres/type-values.ts';
import { type Database, type System, systems, useDatabases } from '../kit/database.ts';
import { makeWorkplace, messageOf } from '../kit/sluice.ts';
import { copyPipeline, environmentOf, verifiedOf } from '../kit/verify-pipeline.ts';

const timeout = 400_000;

const server = useDatabases();

/** MySQL has no NaN and no infinity, and of a number 65 digits, 30 of them behind the point: the sink refuses the others. */
const isKnownToMysql = (type: string) => (text: string) => {
  if (type === 'numeric') return text.replace(/\..*|^-/g, '').length <= 35;
  return type !== 'double precision' || !/NaN|Infinity/.test(text);
};

/** A table t with a row of every type's test values, one of nulls, and generated ones. */
const makeTypes = async (db: Database, to: System): Promise<void> => {
  const { system } = db;
  if (system === 'postgres') {
    const kept = Object.entries(types);
    await db.run(extra);
    await db.run(`CREATE TABLE t (id int PRIMARY KEY, ${kept.map(([type], i) => `c${i} ${type}`).join(', ')})`);
    const rows = fc.sample(
      fc.tuple(
        ...kept.map(([type, [, some]]) =>
          fc.option(to === 'postgres' ? some : some.filter(isKnownToMysql(type)), { freq: 8 }),
        ),
      ),
      {
        seed: 20261122,
        numRuns: 100,
      },
    );
    const literal = (text: string | null) => (text === null ? 'NULL' : `'${text.replaceAll("'", "''")}'`);
    for (const [id, row] of rows.entries())
      await db.run(`INSERT INTO t VALUES (${id}, ${row.map(literal).join(', ')})`);
    return;
  }
  const kept = values.filter(
    ([, literal, , only = system]) => only === system && (to !== 'postgres' || !literal.includes('\\0')),
  );
  const columns = kept.map(([type], i) => `c${i} ${type}${type.endsWith('NULL') ? '' : ' NULL'}`);
  await db.run(`CREATE TABLE t (id int PRIMARY KEY, ${columns.join(', ')}) CHARSET utf8mb4 ROW_FORMAT=DYNAMIC`);
  await db.run(`INSERT INTO t VALUES (1, ${kept.map(([, literal]) => literal).join(', ')})`);
  await db.run('INSERT INTO t (id) VALUES (2)');
};

const pairs = systems.flatMap((from) => systems.map((to) => [from, to] as const));

describe.each(pairs)('%s to %s', (from, to) => {
  test('every type is equal on both sides', { timeout }, async () => {
    await using source = await server(from).database(`${from}_${to}_a`);
    await using sink = await server(to).database(`${from}_${to}_b`);
    await makeTypes(source, to);
    await using place = await makeWorkplace();
    const pipeline = copyPipeline(source, sink, ['t'], from === to ? 'direct' : 'the log', `p_${from}_${to}`);
    await place.file('p.yaml', pipeline);
    const ran = await place.sluice(['run', 'p.yaml'], environmentOf(source, sink));
    expect(ran.code, messageOf(ran)).toBe(0);
    const verified = await place.sluice(['verify', 'p.yaml', '--values', '--json'], environmentOf(source, sink));
    const told = verifiedOf(verified).flatMap(({ differences }) =>
      differences.slice(0, 8).map((one) => JSON.stringify(one)),
    );
    expect(told, messageOf(verified).slice(0, 300)).toEqual([]);
    expect(verified.code).toBe(0);
  });
});
