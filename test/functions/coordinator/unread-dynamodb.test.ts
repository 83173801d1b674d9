import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll } from 'vitest';
import { dynamoTable } from '../../../shared/state/dynamodb/table.ts';
import { describeUnread } from '../../kit/describe-unread.ts';
import { type Dynoxide, startDynoxide } from '../../kit/dynoxide.ts';

let server: Dynoxide;
beforeAll(async () => {
  server = await startDynoxide();
});
afterAll(() => server.stop());

describeUnread('DynamoDB', async () => {
  const tableName = randomUUID();
  await server.createTable(tableName);
  return dynamoTable({ client: server.client, tableName });
});
