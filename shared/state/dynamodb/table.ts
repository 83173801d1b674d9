import {
  BatchGetItemCommand,
  type CancellationReason,
  ConditionalCheckFailedException,
  type ConsumedCapacity,
  DeleteItemCommand,
  type DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
  QueryCommand,
  TransactionCanceledException,
  type TransactWriteItem,
  TransactWriteItemsCommand,
  UpdateItemCommand,
} from '@aws-sdk/client-dynamodb';
import { marshall, unmarshall } from '@aws-sdk/util-dynamodb';
import { backoffMs, delay } from '../../connect/backoff.ts';
import { ConnectError } from '../../connect/errors.ts';
import type { Attribute, Condition, FailedWrite, Item, Key, Table, Write, WriteResult } from '../table.ts';

type AttributeMap = NonNullable<TransactWriteItem['Put']>['Item'];

export interface DynamoTableOptions {
  readonly client: DynamoDBClient;
  readonly tableName: string;
  /** Reads that may be a second or two behind, at half the price: for who looks again, and compares before it writes. */
  readonly eventual?: boolean;
  /** Told what each request consumed: cost is shown, not guessed. */
  readonly onUnits?: (units: Units) => void;
}

export interface Units {
  readonly read: number;
  readonly write: number;
}

/** The index that lists connectors and topics: `kind` → `name`, keys only. */
export const kindIndex = 'kinds';

/** Tries of a transaction that others keep in conflict; with full jitter this is about three seconds. */
const conflictTries = 10;

export const dynamoTable = (options: DynamoTableOptions): Table => {
  const { client: bare, tableName, eventual = false, onUnits } = options;
  const client = onUnits === undefined ? bare : metered(bare, onUnits);
  return tableOf(client, tableName, !eventual);
};

/** The client with every command asked for the capacity it consumed. */
const metered = (client: DynamoDBClient, onUnits: (units: Units) => void): DynamoDBClient =>
  Object.create(client, {
    send: {
      value: async (command: { input: object }) => {
        Object.assign(command.input, { ReturnConsumedCapacity: 'TOTAL' });
        const answer = (await client.send(command as never)) as {
          ConsumedCapacity?: ConsumedCapacity | ConsumedCapacity[];
        };
        const reads =
          'ConsistentRead' in command.input || 'RequestItems' in command.input || 'IndexName' in command.input;
        for (const { CapacityUnits = 0 } of [answer.ConsumedCapacity ?? []].flat())
          onUnits({ read: reads ? CapacityUnits : 0, write: reads ? 0 : CapacityUnits });
        return answer;
      },
    },
  }) as DynamoDBClient;

const tableOf = (client: DynamoDBClient, TableName: string, ConsistentRead: boolean): Table => ({
  async get(key) {
    const { Item } = await send(() =>
      client.send(new GetItemCommand({ TableName, Key: toMap(keyAlone(key)), ConsistentRead })),
    );
    return Item && fromMap(Item);
  },

  async getMany(keys) {
    if (keys.length === 0) return [];
    const found = new Map<string, Item>();
    let pending: AttributeMap[] = keys.map((key) => toMap(keyAlone(key)));
    for (let attempt = 0; pending.length > 0; attempt++) {
      if (attempt > 0) await delay(backoffMs(attempt, 20, 2_000));
      const request = { [TableName]: { Keys: pending as Record<string, never>[], ConsistentRead } };
      const answer = await send(() => client.send(new BatchGetItemCommand({ RequestItems: request })));
      for (const map of answer.Responses?.[TableName] ?? []) {
        const item = fromMap(map);
        found.set(`${item.pk}\0${item.sk}`, item);
      }
      pending = (answer.UnprocessedKeys?.[TableName]?.Keys ?? []) as AttributeMap[];
    }
    return keys.map(({ pk, sk }) => found.get(`${pk}\0${sk}`));
  },

  async query(pk, { from, to, limit, descending = false } = {}) {
    const items: Item[] = [];
    let start: AttributeMap;
    do {
      const page = await send(() =>
        client.send(
          new QueryCommand({
            TableName,
            ConsistentRead,
            ScanIndexForward: !descending,
            ...rangeOf(pk, from, to),
            ...(limit === undefined ? {} : { Limit: limit - items.length }),
            ...(start === undefined ? {} : { ExclusiveStartKey: start }),
          }),
        ),
      );
      for (const map of page.Items ?? []) items.push(fromMap(map));
      start = page.LastEvaluatedKey;
    } while (start !== undefined && (limit === undefined || items.length < limit));
    return items;
  },

  async write(writes) {
    const [first, ...others] = writes;
    if (first === undefined) return { ok: true };
    return others.length === 0 ? writeOne(client, TableName, first) : writeAll(client, TableName, writes);
  },

  async names(kind) {
    const names: string[] = [];
    let start: AttributeMap;
    do {
      const page = await send(() =>
        client.send(
          new QueryCommand({
            TableName,
            IndexName: kindIndex,
            KeyConditionExpression: '#kind = :kind',
            ExpressionAttributeNames: { '#kind': 'kind' },
            ExpressionAttributeValues: { ':kind': { S: kind } },
            ...(start === undefined ? {} : { ExclusiveStartKey: start }),
          }),
        ),
      );
      for (const map of page.Items ?? []) names.push(String(unmarshall(map).name));
      start = page.LastEvaluatedKey;
    } while (start !== undefined);
    return names.sort();
  },
});

const writeOne = async (client: DynamoDBClient, TableName: string, write: Write): Promise<WriteResult> => {
  const request = { ...toRequest(TableName, write), ReturnValuesOnConditionCheckFailure: 'ALL_OLD' as const };
  const command =
    'put' in write
      ? new PutItemCommand(request as never)
      : 'delete' in write
        ? new DeleteItemCommand(request as never)
        : new UpdateItemCommand(request as never);
  try {
    await send(() => client.send(command as PutItemCommand));
    return { ok: true };
  } catch (thrown) {
    const cause = (thrown as Error).cause;
    if (!(cause instanceof ConditionalCheckFailedException)) throw thrown;
    return { ok: false, failed: [failedWrite(0, cause.Item)] };
  }
};

const writeAll = async (client: DynamoDBClient, TableName: string, writes: readonly Write[]): Promise<WriteResult> => {
  const TransactItems = writes.map((write) => {
    const request = { ...toRequest(TableName, write), ReturnValuesOnConditionCheckFailure: 'ALL_OLD' as const };
    return 'put' in write ? { Put: request } : 'delete' in write ? { Delete: request } : { Update: request };
  }) as TransactWriteItem[];
  for (let attempt = 1; ; attempt++) {
    try {
      // The SDK makes one ClientRequestToken per command and keeps it over its own retries: a token is a retry aid, not an identity.
      await send(() => client.send(new TransactWriteItemsCommand({ TransactItems })));
      return { ok: true };
    } catch (thrown) {
      const cause = (thrown as Error).cause;
      if (!(cause instanceof TransactionCanceledException)) throw thrown;
      const reasons = cause.CancellationReasons ?? [];
      const failed = reasons.flatMap((reason, index) =>
        reason.Code === 'ConditionalCheckFailed' ? [failedWrite(index, reason.Item)] : [],
      );
      if (failed.length > 0) return { ok: false, failed };
      if (!reasons.every(passes) || attempt === conflictTries) throw cancelled(reasons, thrown);
      await delay(backoffMs(attempt, 20, 1_000));
    }
  }
};

/** Another transaction, or the throughput limit, was in the way: the same transaction may pass a moment later. */
const passes = ({ Code }: CancellationReason): boolean =>
  Code === undefined ||
  ['None', 'TransactionConflict', 'ThrottlingError', 'ProvisionedThroughputExceeded'].includes(Code);

const cancelled = (reasons: readonly CancellationReason[], cause: unknown): ConnectError => {
  const bad = reasons.find((reason) => !passes(reason));
  if (bad === undefined)
    return new ConnectError(
      'UNAVAILABLE',
      `the table refused a transaction ${conflictTries} times: others write the same items`,
      {
        retriable: true,
        cause,
      },
    );
  const code = /size/i.test(bad.Message ?? '') ? 'TOO_LARGE' : 'UNEXPECTED';
  return new ConnectError(code, `the table refused a transaction: ${bad.Code}: ${bad.Message}`, { cause });
};

const failedWrite = (index: number, map: AttributeMap): FailedWrite => ({
  index,
  ...(map === undefined ? {} : { found: fromMap(map) }),
});

/** Errors of the wire and of the service as ConnectErrors; condition failures keep their class as the cause. */
const send = async <T>(call: () => Promise<T>): Promise<T> => {
  try {
    return await call();
  } catch (cause) {
    const { name, message, $metadata } = cause as Error & { $metadata?: { httpStatusCode?: number } };
    const status = $metadata?.httpStatusCode;
    if (name === 'AccessDeniedException') throw accessDenied(message, cause);
    if (name === 'ValidationException' && /size|length/i.test(message))
      throw new ConnectError('TOO_LARGE', message, { cause });
    if (status !== undefined && status < 500 && !/Throttl|Throughput|RequestLimit|InProgress/.test(name))
      throw new ConnectError('UNEXPECTED', `DynamoDB: ${name}: ${message}`, { cause });
    throw new ConnectError('UNAVAILABLE', `DynamoDB did not serve the request: ${name}: ${message}`, {
      retriable: true,
      cause,
    });
  }
};

/** Who asked, for what, and which policy is missing, stands in AWS's own message. */
const accessDenied = (message: string, cause: unknown): ConnectError => {
  const [, action, resource] = /to perform: (\S+)(?: on resource: (\S+))?/.exec(message) ?? [];
  const what = action === undefined ? 'the request' : `${action}${resource === undefined ? '' : ` on ${resource}`}`;
  return new ConnectError(
    'ACCESS_DENIED',
    `DynamoDB denied ${what}: allow it in the role of the function. ${message}`,
    {
      cause,
    },
  );
};

const toMap = (value: object): Record<string, never> =>
  marshall(value, { removeUndefinedValues: true }) as Record<string, never>;

const fromMap = (map: NonNullable<AttributeMap>): Item => unmarshall(map) as Item;

const rangeOf = (pk: string, from: string | undefined, to: string | undefined) => {
  const both = from !== undefined && to !== undefined;
  const lower = from === undefined ? '' : ' AND sk >= :from';
  const upper = to === undefined ? '' : ' AND sk <= :to';
  return {
    // A key may have one condition only: two bounds are a BETWEEN.
    KeyConditionExpression: `pk = :pk${both ? ' AND sk BETWEEN :from AND :to' : lower + upper}`,
    ExpressionAttributeValues: {
      ':pk': { S: pk },
      ...(from === undefined ? {} : { ':from': { S: from } }),
      ...(to === undefined ? {} : { ':to': { S: to } }),
    },
  };
};

/** One write as DynamoDB's parameters. Every attribute name goes by an alias: many are reserved words. */
const toRequest = (TableName: string, write: Write) => {
  const names: Record<string, string> = {};
  const values: Record<string, Attribute> = {};
  const alias = (name: string) => {
    const key = `#${Object.keys(names).length}`;
    names[key] = name;
    return key;
  };
  const bind = (value: Attribute) => {
    const key = `:${Object.keys(values).length}`;
    values[key] = value;
    return key;
  };
  const condition = conditionText(write.when, alias, bind);
  const body =
    'put' in write
      ? { Item: toMap(write.put) }
      : 'delete' in write
        ? { Key: toMap(keyAlone(write.delete)) }
        : { Key: toMap(keyAlone(write.update)), UpdateExpression: updateText(write.set, alias, bind) };
  return {
    TableName,
    ...body,
    ...(condition === undefined ? {} : { ConditionExpression: condition }),
    ...(Object.keys(names).length === 0 ? {} : { ExpressionAttributeNames: names }),
    ...(Object.keys(values).length === 0 ? {} : { ExpressionAttributeValues: toMap(values) }),
  };
};

const keyAlone = ({ pk, sk }: Key) => ({ pk, sk });

const conditionText = (
  condition: Condition | undefined,
  alias: (name: string) => string,
  bind: (value: Attribute) => string,
): string | undefined => {
  if (condition === undefined) return undefined;
  if (condition === 'absent') return `attribute_not_exists(${alias('pk')})`;
  const parts = Object.entries(condition).map(([name, value]) =>
    value === undefined ? `attribute_not_exists(${alias(name)})` : `${alias(name)} = ${bind(value)}`,
  );
  return [`attribute_exists(${alias('pk')})`, ...parts].join(' AND ');
};

const updateText = (
  set: { readonly [name: string]: Attribute | undefined },
  alias: (name: string) => string,
  bind: (value: Attribute) => string,
): string => {
  const sets: string[] = [];
  const removes: string[] = [];
  for (const [name, value] of Object.entries(set))
    if (value === undefined) removes.push(alias(name));
    else sets.push(`${alias(name)} = ${bind(value)}`);
  return [sets.length > 0 ? `SET ${sets.join(', ')}` : '', removes.length > 0 ? `REMOVE ${removes.join(', ')}` : '']
    .filter((part) => part !== '')
    .join(' ');
};
