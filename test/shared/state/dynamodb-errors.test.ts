import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { expect, onTestFinished, test } from 'vitest';
import { dynamoTable } from '../../../shared/state/dynamodb/table.ts';

type Answer = { readonly status?: number; readonly type?: string; readonly message?: string };

/** A table behind an endpoint that gives these answers, the last one again and again; and how often it was asked. */
const tableThatAnswers = async (...answers: readonly Answer[]) => {
  let asked = 0;
  const server = createServer((request, response) => {
    request.resume().once('end', () => {
      const { status = 200, type, message } = answers[Math.min(asked++, answers.length - 1)]!;
      response.writeHead(status, { 'content-type': 'application/x-amz-json-1.0' });
      response.end(JSON.stringify(type === undefined ? {} : { __type: `com.amazonaws.dynamodb#${type}`, message }));
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = new DynamoDBClient({
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    region: 'us-east-1',
    maxAttempts: 2,
  });
  onTestFinished(() => {
    client.destroy();
    server.closeAllConnections();
    server.close();
  });
  return { table: dynamoTable({ client, tableName: 'State' }), asked: () => asked };
};

const key = { pk: 'connector#shop', sk: 'CONFIG' };
const resource = 'arn:aws:dynamodb:us-east-1:1:table/State';
const message = `User: arn:aws:sts::1:assumed-role/R/F is not authorized to perform: dynamodb:PutItem on resource: ${resource} because no identity-based policy allows the dynamodb:PutItem action`;

test('access denied names the action and the resource, and is not tried again', async () => {
  const { table, asked } = await tableThatAnswers({ status: 400, type: 'AccessDeniedException', message });
  await expect(table.write([{ put: { ...key } }])).rejects.toMatchObject({
    code: 'ACCESS_DENIED',
    retriable: false,
    message: `DynamoDB denied dynamodb:PutItem on ${resource}: allow it in the role of the function. ${message}`,
  });
  expect(asked()).toBe(1);
});

const passing = [
  { status: 400, type: 'ThrottlingException' },
  { status: 400, type: 'ProvisionedThroughputExceededException' },
  { status: 400, type: 'RequestLimitExceeded' },
  { status: 500, type: 'InternalServerError' },
  { status: 503, type: 'ServiceUnavailable' },
];

test.each(passing)('$type is waited for', async (error) => {
  const { table, asked } = await tableThatAnswers(error, {});
  expect(await table.get(key)).toBeUndefined();
  expect(asked()).toBe(2);
});

test.each(passing)('$type that does not pass ends a run that may be tried again', async (error) => {
  const { table, asked } = await tableThatAnswers({ ...error, message: 'too busy' });
  await expect(table.get(key)).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    retriable: true,
    message: expect.stringMatching(`${error.type}.*too busy`),
  });
  expect(asked()).toBe(2);
});
