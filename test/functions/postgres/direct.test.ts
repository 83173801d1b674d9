import { describe, expect, test } from 'vitest';
import type { Value } from '../../../shared/connect/schema.ts';
import { keyed, putRecords } from '../../kit/put-records.ts';
import { useSink } from './sink-fixture.ts';

const { withSink, run, all, schema, urlAs } = useSink();

const rows = (from: number, to: number, s = 'x') =>
  Array.from({ length: to - from }, (_, i) => keyed(from + i, { s }, { s: 'string' }));

/** A table that notes in `how` what each statement said that inserted into it, one time for each wording. */
const noting = (more = '') =>
  run(`CREATE TABLE how (said text UNIQUE);
    CREATE TABLE t (id integer PRIMARY KEY, s text ${more});
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS
      $$ BEGIN INSERT INTO how VALUES (CASE WHEN current_query() LIKE '%INSERT INTO%' THEN 'merged' WHEN current_query() LIKE '%binary%' THEN 'binary' ELSE 'text' END) ON CONFLICT DO NOTHING; RETURN NULL; END $$;
    CREATE TRIGGER note AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION note()`);
const how = async () => {
  const said = await all('SELECT said FROM how ORDER BY said');
  await run('TRUNCATE how');
  return said.flat();
};

describe('many rows of an upsert', () => {
  test('go into the table itself while all are new, and are merged from the first batch on that has one that is there', async () => {
    await noting();
    await withSink({}, async (task) => {
      await putRecords(task, rows(0, 1_000));
      expect(await how()).toEqual(['binary']);
      await putRecords(task, rows(1_000, 2_500));
      expect(await how()).toEqual(['binary']);
      await putRecords(task, rows(2_400, 3_500, 'y'));
      expect(await how()).toEqual(['merged']);
      await putRecords(task, rows(5_000, 6_000, 'y'));
      expect(await how()).toEqual(['merged']);
    });
    expect(await all('SELECT s, count(*)::int FROM t GROUP BY s ORDER BY s')).toEqual([
      ['x', 2_400],
      ['y', 2_100],
    ]);
  });

  test('go in binary, and as texts from a batch on that has a value which is not written as most are', async () => {
    await noting(', at time');
    await withSink({}, async (task) => {
      const ats = (from: number, at: string) =>
        Array.from({ length: 1_000 }, (_, i) => keyed(from + i, { s: 'x', at }, { s: 'string', at: 'time' }));
      await putRecords(task, ats(1_000, '12:00:00'));
      expect(await how()).toEqual(['binary']);
      await putRecords(task, [
        ...ats(2_000, '12:00:00'),
        keyed(3_000, { s: 'y', at: '24:00:00' }, { s: 'string', at: 'time' }),
      ]);
      expect(await how()).toEqual(['text']);
      await putRecords(task, ats(4_000, '12:00:00'));
      expect(await how()).toEqual(['text']);
    });
    expect(await all('SELECT count(*)::int, max(at)::text FROM t')).toEqual([[3_001, '24:00:00']]);
  });

  test('few rows, and batches with a tombstone, are merged at once', async () => {
    await noting();
    await withSink({}, async (task) => {
      await putRecords(task, rows(0, 999));
      expect(await how()).toEqual(['merged']);
      await putRecords(task, [...rows(1_000, 2_000), keyed(1_500, null, { s: 'string' })]);
      expect(await how()).toEqual(['merged']);
      await putRecords(task, rows(2_000, 3_000));
      expect(await how()).toEqual(['binary']);
    });
    expect(await all('SELECT count(*)::int FROM t')).toEqual([[2_998]]);
  });

  test('the last one of a key wins also within a batch', async () => {
    const { rejected } = await withSink({}, (task) =>
      putRecords(task, [...rows(0, 1_000), keyed(7, { s: 'last' }, { s: 'string' })]),
    );
    expect(rejected).toEqual([]);
    expect(await all('SELECT count(*)::int FROM t')).toEqual([[1_000]]);
    expect(await all('SELECT s FROM t WHERE id = 7')).toEqual([['last']]);
  });

  test.each([
    ['at its row', 'CHECK (id <> 777)'],
    ['at the commit', ', UNIQUE (s) DEFERRABLE INITIALLY DEFERRED'],
  ])('what is refused %s leaves nothing of the try behind', async (_, constraint) => {
    await run(`CREATE TABLE t (id integer PRIMARY KEY, s text ${constraint})`);
    const unique = Array.from({ length: 1_200 }, (_, i) => keyed(i, { s: `s${i}` }, { s: 'string' }));
    await withSink({}, async (task) => {
      await putRecords(task, unique);
      if (!constraint.startsWith('CHECK'))
        await putRecords(task, [...unique.slice(0, 1_100), keyed(5_000, { s: 's3' }, { s: 'string' })]).then(
          () => expect.unreachable('two rows of one value'),
          (error: Error) => expect(error.message).toMatch(/duplicate key value violates unique constraint/),
        );
    });
    expect(await all('SELECT count(*)::int, max(id)::int FROM t')).toEqual([
      [constraint.startsWith('CHECK') ? 1_199 : 1_200, 1_199],
    ]);
  });

  test('a table that takes no COPY is merged into', async () => {
    await run(`CREATE TABLE t (id integer PRIMARY KEY, s text); ALTER TABLE t ENABLE ROW LEVEL SECURITY;
      CREATE POLICY everyone ON t USING (true) WITH CHECK (true); CREATE ROLE direct_test LOGIN PASSWORD 'p';
      GRANT ALL ON t TO direct_test; GRANT ALL ON SCHEMA ${schema()} TO direct_test`);
    await withSink({ url: urlAs('direct_test:p') }, (task) => putRecords(task, rows(0, 1_000)));
    expect(await all('SELECT count(*)::int FROM t')).toEqual([[1_000]]);
  });

  test('a row that is there as it came is not written again', async () => {
    await run('CREATE TABLE t (id integer PRIMARY KEY, s text, j json)');
    const of = (id: number, s: string | null, j: object | null) =>
      keyed(id, { s, j: j as Value }, { s: { type: 'string', optional: true }, j: { type: 'any', optional: true } });
    const first = [of(1, 'a', { a: 1 }), of(2, null, null), of(3, 'c', [1]), of(4, 'd', null)];
    const second = [of(1, 'a', { a: 1 }), of(2, null, null), of(3, 'c', [2]), of(4, null, null)];
    const versions = async () => (await all('SELECT id, xmin::text FROM t ORDER BY id')).map(([, xmin]) => xmin);
    await withSink({}, async (task) => {
      await putRecords(task, first);
      const before = await versions();
      await putRecords(task, second);
      const after = await versions();
      expect(after.map((xmin, i) => xmin === before[i])).toEqual([true, true, false, false]);
    });
    expect(await all('SELECT id, s, j::text FROM t ORDER BY id')).toEqual([
      [1, 'a', '{"a":1}'],
      [2, null, null],
      [3, 'c', '[2]'],
      [4, null, null],
    ]);
  });
});
