import { setTimeout as delay } from 'node:timers/promises';
import {
  ConditionalCheckFailedException,
  DeleteItemCommand,
  type DeleteItemCommandInput,
  DynamoDBClient,
  paginateScan,
} from '@aws-sdk/client-dynamodb';
import type { Chaos } from './chaos.ts';
import { clientConfig } from './dynamodb.ts';
import type { Table } from './tables.ts';

export interface TimeToLiveOptions {
  endpoint: string;
  region: string;
  /** Between two looks for what has expired. */
  intervalMs: number;
  /** Before the first one: what would have been given more time, had this machine been on, is given it by then. */
  firstMs: number;
  chaos: Chaos | undefined;
  onError: (table: string, error: Error) => void;
}

/** Deletes expired items as DynamoDB does, some time after they expired; the embedded one leaves that to its host. */
export function startTimeToLive(tables: Table[], options: TimeToLiveOptions): { stop(): Promise<void> } {
  const client = new DynamoDBClient(clientConfig(options.endpoint, options.region));
  const stopping = new AbortController();
  const { signal } = stopping;
  const follow = async (table: Table, attribute: string): Promise<void> => {
    for (let waitMs = options.firstMs; !signal.aborted; waitMs = options.intervalMs) {
      await delay(waitMs, undefined, { signal }).catch(() => {});
      try {
        if (!signal.aborted) await deleteExpired(client, table, attribute, options.chaos, signal);
      } catch (error) {
        if (!signal.aborted) options.onError(table.name, error as Error);
      }
    }
  };
  const done = tables.flatMap((table) =>
    table.timeToLiveAttribute === undefined ? [] : [follow(table, table.timeToLiveAttribute)],
  );
  return {
    async stop() {
      stopping.abort();
      await Promise.all(done);
      client.destroy();
    },
  };
}

async function deleteExpired(
  client: DynamoDBClient,
  table: Table,
  attribute: string,
  chaos: Chaos | undefined,
  signal: AbortSignal,
): Promise<void> {
  const key = [table.partitionKey, table.sortKey].filter((name) => name !== undefined);
  const names = Object.fromEntries([...key, attribute].map((name, index) => [`#${index}`, name]));
  const ttl = `#${key.length}`;
  const now = { ':now': { N: String(Math.floor(Date.now() / 1000)) } };
  const pages = paginateScan(
    { client },
    {
      TableName: table.name,
      ProjectionExpression: Object.keys(names).join(', '),
      FilterExpression: `${ttl} < :now`,
      ExpressionAttributeNames: names,
      ExpressionAttributeValues: now,
    },
  );
  for await (const { Items = [] } of pages) {
    // Under chaos any of them, in any order: the rest is found again.
    for (const item of chaos ? chaos.some(Items) : Items) {
      if (signal.aborted) return;
      await deleteUnlessChanged(client, {
        TableName: table.name,
        Key: Object.fromEntries(key.map((name) => [name, item[name]!])),
        // It may have been given more time since it was read.
        ConditionExpression: `${ttl} < :now`,
        ExpressionAttributeNames: { [ttl]: attribute },
        ExpressionAttributeValues: now,
      });
      chaos?.count('items expired');
    }
  }
}

async function deleteUnlessChanged(client: DynamoDBClient, input: DeleteItemCommandInput): Promise<void> {
  try {
    await client.send(new DeleteItemCommand(input));
  } catch (error) {
    if (!(error instanceof ConditionalCheckFailedException)) throw error;
  }
}
