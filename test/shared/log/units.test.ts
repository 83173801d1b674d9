import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { fileSource } from '../../../functions/file/file-source.ts';
import { logSink } from '../../../shared/log/append.ts';
import { memoryObjects } from '../../../shared/log/objects.ts';
import { openChecked } from '../../../shared/runtime/checked-source.ts';
import { dynamoTable, type Units } from '../../../shared/state/dynamodb/table.ts';
import { type Dynoxide, startDynoxide } from '../../kit/dynoxide.ts';
import { createRunKit } from '../../kit/run-kit.ts';

/** What DynamoDB says it counts: two units for each KB that a transaction writes. */
let server: Dynoxide;
let directory: string;
beforeAll(async () => {
  server = await startDynoxide();
  await server.createTable('units');
  directory = await mkdtemp(join(tmpdir(), 'sluice-units-'));
});
afterAll(async () => {
  await server.stop();
  await rm(directory, { recursive: true });
});

test('a small commit is six write units, a run with one eight, an empty poll none', async () => {
  const used = { read: 0, write: 0 };
  const commits: number[] = [];
  const onUnits = ({ read, write }: Units) => {
    used.read += read;
    used.write += write;
  };
  const table = dynamoTable({ client: server.client, tableName: 'units', onUnits });
  const path = join(directory, 'rows.jsonl');
  const run = async () => {
    Object.assign(used, { read: 0, write: 0 });
    const kit = createRunKit(table);
    const context = { connector: 'c', incarnation: 'i1', deployment: 'test', taskId: 0, tasks: 1 };
    const config = fileSource.config.parse({ path, topic: 'orders', fields: { id: 'int64', text: 'string' } });
    const { outcome } = await kit.run({
      openSource: () => openChecked(fileSource, { ...context, config, signal: new AbortController().signal }),
      openSink: async () => {
        const sink = logSink({ table, objects: memoryObjects(), owner: context });
        return {
          ...sink,
          async put(...args) {
            const before = used.write;
            const result = await sink.put(...args);
            commits.push(used.write - before);
            return result;
          },
        };
      },
    });
    return { outcome, ...used };
  };

  await writeFile(path, `${JSON.stringify({ id: 1, text: 'x' })}\n`);
  // The first one also makes the topic.
  expect(await run()).toMatchObject({ outcome: 'drained' });
  // Does not compress: about 600 bytes, with the columns' lengths and the schema.
  await writeFile(path, `${JSON.stringify({ id: 2, text: randomBytes(390).toString('base64') })}\n`, { flag: 'a' });
  expect(await run()).toMatchObject({ outcome: 'drained', write: 8 });
  const [segment] = (await table.query('log#orders#0#0', { from: '0', to: '9' })).slice(-1);
  expect(Number(segment!.bytes)).toBeGreaterThan(560);
  expect(Number(segment!.bytes)).toBeLessThanOrEqual(600);
  expect(commits.at(-1)).toBe(6);
  expect(await run()).toMatchObject({ outcome: 'idle', write: 0 });
});
