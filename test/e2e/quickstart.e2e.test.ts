import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runPostgres } from '../../infra/local/embedded-postgres.ts';
import { readParquet } from '../functions/file/sink/read-files.ts';
import { type PostgresServer, startPostgres } from '../kit/postgres-server.ts';
import { countsOf, difference, filesOf, queryRows, same } from '../kit/rows.ts';
import { seeded } from '../kit/seed.ts';
import { envelopeOf, makeWorkplace, messageOf, repository, type Workplace } from '../kit/sluice.ts';
import { until } from '../kit/until.ts';

const dataDirectory = join(repository, 'node_modules/vega-datasets/data');
const total = 203_201;
const runMs = 90_000;

/** The pipeline as it is shipped: only its paths are made absolute, and its files go to the workplace. */
const writeQuickstart = async (place: Workplace): Promise<void> => {
  const yaml = await readFile(join(repository, 'infra/pipelines/quickstart.yaml'), 'utf8');
  const moved = yaml
    .replaceAll('../../node_modules/vega-datasets/data', dataDirectory)
    .replace('path: ../../out', `path: ${place.path('out')}`);
  await place.file('quickstart.yaml', moved);
};

const readJson = async (name: string) =>
  JSON.parse(await readFile(join(dataDirectory, name), 'utf8')) as Record<string, unknown>[];

const months = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');
const isoDate = (text: string) => {
  const [month, day, year] = text.split(' ');
  return `${year}-${String(months.indexOf(month!) + 1).padStart(2, '0')}-${day!.padStart(2, '0')}`;
};

/** A movie's fields as texts, in the order of the file. */
const movieTexts = (movie: Record<string, unknown>) =>
  Object.entries(movie).map(([name, value]) => {
    if (value === null) return null;
    if (name === 'Release Date') return isoDate(String(value));
    return name === 'IMDB Rating' ? Number(value).toFixed(1) : String(value);
  });

/** What Parquet keeps as a number: days since 1970, tenths. */
const parquetMovie = (row: readonly unknown[], names: readonly string[]) =>
  row.map((value, i) => {
    if (value === null) return null;
    if (names[i] === 'Release Date') return new Date(Number(value) * 86_400_000).toISOString().slice(0, 10);
    if (names[i] === 'IMDB Rating') return (Number(value) / 10).toFixed(1);
    return value instanceof Uint8Array ? Buffer.from(value).toString() : String(value);
  });

const flightTexts = ({ delay, distance, time }: Record<string, unknown>) => [delay, distance, time].map(String);

let postgres: PostgresServer;
let expected: { movies: ReadonlyMap<string, number>; flights: ReadonlyMap<string, number>; names: string[] };

beforeAll(async () => {
  const [movies, flights, server] = await Promise.all([
    readJson('movies.json'),
    readJson('flights-200k.json'),
    startPostgres(),
  ]);
  postgres = server;
  expected = {
    movies: countsOf(movies.map(movieTexts)),
    flights: countsOf(flights.map(flightTexts)),
    names: Object.keys(movies[0]!),
  };
  expect(movies.length + flights.length).toBe(total);
  expect(expected.flights.size).toBe(193_927);
});
afterAll(() => postgres?.stop());

const checkPostgres = async (url: string): Promise<void> => {
  const columns = expected.names.map((name) => `"${name}"`).join();
  const movies = await queryRows(url, `select ${columns} from movies`);
  expect(difference(countsOf(movies), expected.movies)).toEqual(same);
  const flights = await queryRows(url, 'select delay, distance, time from flights');
  expect(difference(countsOf(flights), expected.flights)).toEqual(same);
  const release = expected.names.indexOf('Release Date');
  expect(movies.filter((row) => Number(row[release]!.slice(0, 4)) >= 2015)).toHaveLength(22);
  expect(movies.filter(([title]) => title === '300' || title === '2046')).toHaveLength(2);
};

const checkParquet = async (place: Workplace): Promise<void> => {
  const rowsOf = async (topic: string) => {
    const files = await Promise.all(
      (await filesOf(place.path(`out/${topic}`))).map(async (file) => readParquet(await readFile(file))),
    );
    const names = files[0]!.schema.map(({ name }) => name);
    return { names, rows: files.flatMap(({ rows }) => rows) };
  };
  const movies = await rowsOf('movies');
  expect(movies.names).toEqual(expected.names);
  expect(difference(countsOf(movies.rows.map((row) => parquetMovie(row, movies.names))), expected.movies)).toEqual(
    same,
  );
  const flights = await rowsOf('flights');
  expect(difference(countsOf(flights.rows.map((row) => row.map(String))), expected.flights)).toEqual(same);
};

const run = ['run', 'quickstart.yaml', '--json'];

const movedOf = (envelope: ReturnType<typeof envelopeOf>) =>
  (envelope.result as { connectors: { name: string; records: number }[] }).connectors.map(({ name, records }) => [
    name,
    records,
  ]);

/** Files of the log and of the sink, staged ones too: each that comes is a step of somebody. */
const stepsOf = async (place: Workplace): Promise<number> => {
  const lists = await Promise.all(
    ['state/s3', 'out'].map((name) => readdir(place.path(name), { recursive: true }).catch(() => [])),
  );
  return lists.flat().length;
};

const untilGone = (place: Workplace) => until(() => place.processes().length === 0);

describe('the quickstart', () => {
  test('moves every row once, and nothing the second time', { timeout: 2 * runMs }, async () => {
    await using place = await makeWorkplace();
    await writeQuickstart(place);
    const env = { SLUICE_POSTGRES_URL: postgres.url };
    const first = await place.sluice(run, env);
    expect(first.code, first.stdout + first.stderr).toBe(0);
    expect(Object.fromEntries(movedOf(envelopeOf(first)))).toEqual({
      'quickstart-movies': 3_201,
      'quickstart-flights': 200_000,
      'quickstart-postgres': total,
      'quickstart-parquet': total,
    });
    await checkPostgres(postgres.url);
    await checkParquet(place);
    const files = await filesOf(place.path('out/flights'));

    const second = await place.sluice(run, env);
    expect(second.code, second.stdout + second.stderr).toBe(0);
    expect(movedOf(envelopeOf(second)).map(([, records]) => records)).toEqual([0, 0, 0, 0]);
    expect(envelopeOf(second).result).toMatchObject({ writeUnits: 0, objectWrites: 0 });
    expect(await filesOf(place.path('out/flights'))).toEqual(files);
    await checkPostgres(postgres.url);
    await untilGone(place);
  });

  test('killed at random moments and run again, it has moved every row once', { timeout: 6 * runMs }, async () => {
    await using place = await makeWorkplace();
    await writeQuickstart(place);
    const env = { SLUICE_POSTGRES_URL: postgres.url };
    await queryRows(postgres.url, 'drop table if exists movies, flights, sluice_offsets');
    const random = seeded('quickstart kills');
    for (let kill = 0; kill < 3; kill++) {
      const running = place.start(run, env);
      const steps = (await stepsOf(place)) + random.integer(1, 12);
      let hasEnded = false;
      void running.ended.then(() => {
        hasEnded = true;
      });
      await until(async () => hasEnded || (await stepsOf(place)) >= steps, { timeoutMs: runMs });
      // No wait for anything: a moment between two steps.
      await delay(random.integer(0, 60));
      running.kill('SIGKILL');
      await running.ended;
      await untilGone(place);
    }
    const last = await place.sluice(run, env);
    expect(last.code, last.stdout + last.stderr).toBe(0);
    await checkPostgres(postgres.url);
    await checkParquet(place);
    await untilGone(place);
  });

  test('Ctrl-C ends it with everything it started, its database included; the next start goes on', {
    timeout: 3 * runMs,
  }, async () => {
    await using place = await makeWorkplace();
    await writeQuickstart(place);
    const running = place.start(['run', 'quickstart.yaml']);
    await until(async () => (await stepsOf(place)) >= 2, { timeoutMs: runMs });
    running.kill('SIGINT');
    const interrupted = await running.ended;
    expect(messageOf(interrupted)).toContain('the next start goes on from there');
    expect(interrupted.code).toBe(130);
    await untilGone(place);

    const resumed = await place.sluice(run);
    expect(resumed.code, resumed.stdout + resumed.stderr).toBe(0);
    const server = await runPostgres({ directory: place.path('state/postgres') });
    await checkPostgres(server.url).finally(() => server.stop());
    await checkParquet(place);
    await untilGone(place);
  });
});
