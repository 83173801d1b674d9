import { expect, onTestFinished, test } from 'vitest';
import { isCode } from '../../../shared/connect/errors.ts';
import { s3Objects } from '../../../shared/s3/objects.ts';
import { dynamoTable } from '../../../shared/state/dynamodb/table.ts';
import { startDynoxide } from '../../kit/dynoxide.ts';
import { headOf, numbered, numbersOf, openReader, openWriter, range, segmentsOf } from '../../kit/log-kit.ts';
import { startLocalS3 } from '../../kit/s3.ts';
import { until } from '../../kit/until.ts';

const kills = 4;
const batchesPerLife = 12;

test('the store is killed while appends run: what was acknowledged is there, once, and nothing by halves', async () => {
  const server = await startDynoxide();
  onTestFinished(() => server.stop());
  const bodies = await startLocalS3();
  onTestFinished(() => bodies.stop());
  await server.createTable('log');
  const store = {
    table: dynamoTable({ client: server.client, tableName: 'log' }),
    objects: s3Objects(bodies.s3, await bodies.newBucket()),
  };

  const acknowledged = [0, 0];
  let up = true;
  let ended = false;
  /** Batch n is records [3n, 3n + 3), every other one too large to be inline; each life reads how far the last one came. */
  const write = async (id: number): Promise<void> => {
    while (!ended) {
      const writer = openWriter(store, { connector: `w${id}` });
      try {
        for (let n = (await writer.stored())?.seq ?? 0; !ended; n++) {
          expect(n).toBeGreaterThanOrEqual(acknowledged[id]!);
          await writer.send(range(3 * n, 3 * n + 3).map((i) => numbered(id * 1e6 + i, { bytes: (n % 2) * 3_000 })));
          acknowledged[id] = n + 1;
        }
      } catch (error) {
        if (!isCode(error, 'UNAVAILABLE')) throw error;
        await until(() => up);
      }
    }
  };
  const writers = [0, 1].map(write);
  const crash = async () => {
    for (let kill = 0; kill < kills; kill++) {
      const before = acknowledged[0]! + acknowledged[1]!;
      await until(() => acknowledged[0]! + acknowledged[1]! >= before + batchesPerLife);
      up = false;
      await server.kill9();
      await server.restart();
      up = true;
    }
    ended = true;
  };
  await Promise.all([crash(), ...writers]);

  const numbers = numbersOf(await openReader(store).drain({ maxRecords: 50 }));
  for (const id of [0, 1]) {
    const own = numbers.filter((n) => Math.floor(n / 1e6) === id).map((n) => n % 1e6);
    // A batch may have been committed without its answer: the last one, at most.
    const stored = (await openWriter(store, { connector: `w${id}` }).stored())!.seq;
    expect(stored).toBeGreaterThanOrEqual(acknowledged[id]!);
    expect(own).toEqual(range(0, 3 * stored));
  }
  const segments = await segmentsOf(store);
  expect(segments.reduce((sum, { count }) => sum + Number(count), 0)).toBe(Number((await headOf(store)).next));
});
