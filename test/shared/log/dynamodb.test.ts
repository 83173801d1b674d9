import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { directoryObjects } from '../../../shared/log/directory-objects.ts';
import { dynamoTable } from '../../../shared/state/dynamodb/table.ts';
import { describeLog } from '../../kit/describe-log.ts';
import { type Dynoxide, startDynoxide } from '../../kit/dynoxide.ts';

let server: Dynoxide;
let directory: string;
beforeAll(async () => {
  server = await startDynoxide();
  directory = await mkdtemp(join(tmpdir(), 'sluice-log-'));
});
afterAll(async () => {
  await server.stop();
  await rm(directory, { recursive: true, force: true });
});

describeLog('DynamoDB and a directory', async () => {
  const tableName = randomUUID();
  await server.createTable(tableName);
  return {
    table: dynamoTable({ client: server.client, tableName }),
    objects: directoryObjects(join(directory, tableName)),
  };
});
