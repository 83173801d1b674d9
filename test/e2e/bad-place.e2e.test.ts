import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type PostgresServer, startPostgres } from '../kit/postgres-server.ts';
import { jsonLinesOf, queryRows } from '../kit/rows.ts';
import { makeWorkplace, messageOf, type Workplace } from '../kit/sluice.ts';
import { canMount, smallDisk } from '../kit/small-disk.ts';
import { until } from '../kit/until.ts';

/** Places that can't be written to or read from. Nothing is lost: a later run delivers all. */

const timeout = 180_000;
let postgres: PostgresServer;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres?.stop());

/** Texts that do not compress, so that their segment is an object. */
const names = Array.from({ length: 1000 }, (_, id) => `${id}-${Math.imul(id + 1, 2654435761) >>> 0}`);

const toPostgres = async (place: Workplace, topic: string): Promise<void> => {
  await place.file('rows.jsonl', names.map((name, id) => `${JSON.stringify({ id, name })}\n`).join(''));
  await place.file(
    'p.yaml',
    `name: p
sources:
  rows:
    connector: file
    every: 1m
    timeout: 5s
    config: { path: rows.jsonl, topic: ${topic}, keyFields: [id], fields: { id: int32, name: string } }
sinks:
  pg:
    connector: postgres
    from: [rows]
    timeout: 5s
    config: { url: '\${env:SLUICE_POSTGRES_URL}' }
`,
  );
};

const closed = { SLUICE_POSTGRES_URL: 'postgres://u:p@127.0.0.1:1/db' };
const open = () => ({ SLUICE_POSTGRES_URL: postgres.url });
const expected = names.map((name, id) => [String(id), name]);
const delivered = (topic: string) => queryRows(postgres.url, `select id, name from ${topic} order by id`);

describe('a destination', () => {
  test('that can not be reached', { timeout }, async () => {
    await using place = await makeWorkplace();
    await toPostgres(place, 'unreached');
    const failed = await place.sluice(['run', 'p.yaml'], closed);
    expect(messageOf(failed)).toMatch(/p-pg task 0 failed: UNAVAILABLE: .*PostgreSQL at 127\.0\.0\.1:1.*ECONNREFUSED/);
    expect(failed.code).toBe(1);
    const later = await place.sluice(['run', 'p.yaml'], open());
    expect(later.code, messageOf(later)).toBe(0);
    expect(await delivered('unreached')).toEqual(expected);
  });

  test('with a column of another type: the ALTER TABLE that it names mends it', { timeout }, async () => {
    await using place = await makeWorkplace();
    await toPostgres(place, 'unfit');
    await queryRows(postgres.url, 'create table unfit (id integer primary key, name integer)');
    const failed = await place.sluice(['run', 'p.yaml'], open());
    expect(failed.code).toBe(1);
    const [, alter] = /p-pg task 0 failed: .*name.*(ALTER TABLE \S*unfit\S* ALTER COLUMN [^;\n]*)/.exec(
      messageOf(failed),
    )!;
    await queryRows(postgres.url, alter!);
    const later = await place.sluice(['run', 'p.yaml'], open());
    expect(later.code, messageOf(later)).toBe(0);
    expect(await delivered('unfit')).toEqual(expected);
  });

  test.runIf(canMount)('on a disk that is full', { timeout }, async () => {
    await using disk = await smallDisk();
    await using place = await makeWorkplace();
    const rows = names.map((name, id) => ({ id, name: name.repeat(20) }));
    await place.file('rows.jsonl', rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    await place.file(
      'p.yaml',
      `name: p
sources:
  rows: { connector: file, every: 1m, config: { path: rows.jsonl } }
sinks:
  out: { connector: file, from: [rows], config: { path: ${disk.path}/out } }
`,
    );
    await disk.fill(32_768);
    const failed = await place.sluice(['run', 'p.yaml']);
    expect(messageOf(failed)).toMatch(
      /p-out task 0 failed: UNAVAILABLE: cannot write .*out\/.*no space is left.*free some/,
    );
    expect(failed.code).toBe(1);
    await disk.empty();
    const later = await place.sluice(['run', 'p.yaml']);
    expect(later.code, messageOf(later)).toBe(0);
    expect(await jsonLinesOf(`${disk.path}/out/rows`)).toEqual(rows);
  });
});

describe('the state directory', () => {
  test.runIf(canMount).each([0, 65_536])(
    'on a full disk, %d bytes free once there was a run',
    { timeout },
    async (free) => {
      await using disk = await smallDisk();
      await using place = await makeWorkplace(disk.path);
      await toPostgres(place, `full_${free}`);
      await place.file('rows.jsonl', '');
      const empty = await place.sluice(['run', 'p.yaml'], open());
      expect(empty.code, messageOf(empty)).toBe(0);
      await toPostgres(place, `full_${free}`);
      await disk.fill(free);
      const failed = await place.sluice(['run', 'p.yaml'], open());
      if (failed.code !== 0) {
        expect(messageOf(failed)).toMatch(/no space|disk is full|ENOSPC|database or disk is full/i);
        expect([1, 3]).toContain(failed.code);
      }
      await until(() => place.processes().length === 0);
      await disk.empty();
      const later = await place.sluice(['run', 'p.yaml'], open());
      expect(later.code, messageOf(later)).toBe(0);
      expect(await delivered(`full_${free}`)).toEqual(expected);
    },
  );

  test('with a segment that is damaged: it is named and not passed over', { timeout }, async () => {
    await using place = await makeWorkplace();
    await toPostgres(place, 'damaged');
    const unread = await place.sluice(['run', 'p.yaml'], closed);
    expect(messageOf(unread)).toContain('UNAVAILABLE');
    expect(unread.code).toBe(1);
    const objects = (await readdir(place.path('state/s3'), { recursive: true, withFileTypes: true })).filter((entry) =>
      entry.isFile(),
    );
    expect(objects).toHaveLength(1);
    const path = join(objects[0]!.parentPath, objects[0]!.name);
    const bytes = await readFile(path);
    const damaged = Buffer.from(bytes);
    damaged[damaged.length >> 1]! ^= 1;
    await writeFile(path, damaged);
    const failed = await place.sluice(['run', 'p.yaml'], open());
    expect(messageOf(failed)).toMatch(/p-pg task 0 failed: CORRUPT: .*damaged.*checksum/);
    expect(failed.code).toBe(1);
    await writeFile(path, bytes);
    const later = await place.sluice(['run', 'p.yaml'], open());
    expect(later.code, messageOf(later)).toBe(0);
    expect(await delivered('damaged')).toEqual(expected);
  });

  test('of a run that is alive: another one is refused, also with another pipeline', { timeout }, async () => {
    await using place = await makeWorkplace();
    await place.file('rows.jsonl', '{"id":1}\n');
    const pipeline = (path: string) => `name: p
sources:
  rows: { connector: file, every: 1m, config: { path: rows.jsonl } }
sinks:
  out: { connector: file, from: [rows], config: { path: ${path} } }
  pg: { connector: postgres, from: [rows], config: { url: '\${env:SLUICE_POSTGRES_URL}' } }
`;
    await place.file('p.yaml', pipeline('out'));
    // With no SLUICE_POSTGRES_URL: the database in the state directory is the first run's as well.
    const dev = place.start(['dev', 'p.yaml']);
    await until(() => dev.output().includes('in another terminal'), { timeoutMs: 90_000 });
    await place.file('p.yaml', pipeline('elsewhere'));
    const second = await place.sluice(['run', 'p.yaml']);
    expect(messageOf(second)).toMatch(
      new RegExp(`another run \\(pid ${dev.pid}\\) uses .*state; stop it or pass --state`),
    );
    expect(second.code).toBe(3);
    dev.kill('SIGINT');
    expect((await dev.ended).code).toBe(130);
    await until(() => place.processes().length === 0);
    const third = await place.sluice(['run', 'p.yaml']);
    expect(third.code, messageOf(third)).toBe(0);
  });
});
