import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll } from 'vitest';
import { s3Objects } from '../../../shared/s3/objects.ts';
import { dynamoTable } from '../../../shared/state/dynamodb/table.ts';
import { describeLog } from '../../kit/describe-log.ts';
import { type Dynoxide, startDynoxide } from '../../kit/dynoxide.ts';
import { type S3Fixture, startLocalS3 } from '../../kit/s3.ts';

let server: Dynoxide;
let bodies: S3Fixture;
beforeAll(async () => {
  server = await startDynoxide();
  bodies = await startLocalS3();
});
afterAll(async () => {
  await server.stop();
  await bodies.stop();
});

describeLog('DynamoDB and S3', async () => {
  const tableName = randomUUID();
  await server.createTable(tableName);
  return {
    table: dynamoTable({ client: server.client, tableName }),
    objects: s3Objects(bodies.s3, await bodies.newBucket()),
  };
});
