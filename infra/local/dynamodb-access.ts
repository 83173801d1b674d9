import type { AccessRequest } from './iam-policy.ts';

/** What the host must know of tables to tell which keys a request touches. */
export interface TableKeys {
  arn: string;
  partitionKey: string;
  /** Partition keys by the name of the index. */
  indexes: Record<string, string>;
}

type AttributeValue = Record<string, unknown>;
type Key = Record<string, AttributeValue>;

/** The fields of DynamoDB's requests that say what is touched. */
interface Body {
  TableName?: string;
  ResourceArn?: string;
  IndexName?: string;
  Key?: Key;
  Item?: Key;
  KeyConditionExpression?: string;
  KeyConditions?: Record<string, { AttributeValueList?: AttributeValue[] }>;
  ExpressionAttributeNames?: Record<string, string>;
  ExpressionAttributeValues?: Record<string, AttributeValue>;
  RequestItems?: Record<string, unknown>;
  TransactItems?: Record<string, Body>[];
}

/** One action on one table, with the items that it is for. */
interface Touched {
  action: string;
  table: string | undefined;
  index?: string | undefined;
  keys: Key[];
  /** Where the partition key is known without an item, as in a query. */
  query?: Body;
}

/** The action of each part of a transaction. */
const TRANSACT: Record<string, string> = {
  Get: 'GetItem',
  Put: 'PutItem',
  Update: 'UpdateItem',
  Delete: 'DeleteItem',
  ConditionCheck: 'ConditionCheckItem',
};

/**
 * What a request needs to be allowed, each action with all the leading keys that it is for: one statement has to cover them all.
 *
 * @throws where it can't be told
 */
export function accessOf(operation: string, body: Body, tableOf: (name: string) => TableKeys): AccessRequest[] {
  if (operation.endsWith('Statement') || operation === 'ExecuteTransaction')
    throw new Error(`the local host does not evaluate the permissions of PartiQL (${operation}); use the item API`);
  return merged(touchedBy(operation, body)).map((touched) => accessTo(touched, tableOf));
}

function touchedBy(operation: string, body: Body): Touched[] {
  switch (operation) {
    case 'GetItem':
    case 'UpdateItem':
    case 'DeleteItem':
    case 'PutItem':
      return [{ action: operation, table: body.TableName, keys: [body.Key ?? body.Item ?? {}] }];
    case 'Query':
      return [{ action: operation, table: body.TableName, index: body.IndexName, keys: [], query: body }];
    case 'Scan':
      return [{ action: operation, table: body.TableName, index: body.IndexName, keys: [] }];
    case 'BatchGetItem':
      return Object.entries((body.RequestItems ?? {}) as Record<string, { Keys?: Key[] }>).map(([table, { Keys }]) => ({
        action: operation,
        table,
        keys: Keys ?? [],
      }));
    case 'BatchWriteItem':
      return Object.entries((body.RequestItems ?? {}) as Record<string, Record<string, Body>[]>).map(
        ([table, writes]) => ({
          action: operation,
          table,
          keys: writes.map(({ PutRequest, DeleteRequest }) => PutRequest?.Item ?? DeleteRequest?.Key ?? {}),
        }),
      );
    case 'TransactWriteItems':
    case 'TransactGetItems':
      return (body.TransactItems ?? []).flatMap((item) =>
        Object.entries(item).map(([kind, { TableName, Key, Item }]) => ({
          action: TRANSACT[kind] ?? kind,
          table: TableName,
          keys: [Key ?? Item ?? {}],
        })),
      );
    default:
      return [{ action: operation, table: body.TableName ?? body.ResourceArn, keys: [] }];
  }
}

/**
 * What a request does to a table, each action once. AWS does not say which keys of a transaction it holds against the condition of each
 * action: all of them, so that what is allowed here is allowed there.
 */
function merged(touched: Touched[]): Touched[] {
  const all = new Map<string, Touched>();
  for (const each of touched) {
    const keys = touched.filter(({ table }) => table === each.table).flatMap((one) => one.keys);
    all.set(`${each.action} ${each.table}`, { ...each, keys });
  }
  return [...all.values()];
}

function accessTo(
  { action, table: nameOrArn, index, keys, query }: Touched,
  tableOf: (name: string) => TableKeys,
): AccessRequest {
  if (nameOrArn === undefined) return { action: `dynamodb:${action}`, resource: '*' };
  const table = tableOf(nameOrArn.split('/').at(-1) ?? '');
  const partitionKey = index === undefined ? table.partitionKey : (table.indexes[index] ?? '');
  const values = query ? [queriedKey(query, partitionKey)] : keys.map((key) => key[partitionKey]);
  return {
    action: `dynamodb:${action}`,
    resource: index === undefined ? table.arn : `${table.arn}/index/${index}`,
    // No key at all is not a key that is missing: a scan has none.
    ...(values.length === 0 ? {} : { context: { 'dynamodb:LeadingKeys': [...new Set(values.map(textOf))] } }),
  };
}

function queriedKey(body: Body, partitionKey: string): AttributeValue | undefined {
  const { KeyConditionExpression: expression = '', ExpressionAttributeNames: names = {} } = body;
  // In a key condition only the partition key's is an equality on it, and `>=` has no name right before its `=`.
  for (const [, name = '', value = ''] of expression.matchAll(/([#\w.-]+)\s*=\s*(:\w+)/g))
    if ((names[name] ?? name) === partitionKey) return body.ExpressionAttributeValues?.[value];
  return body.KeyConditions?.[partitionKey]?.AttributeValueList?.[0];
}

function textOf(value: AttributeValue | undefined): string {
  return String(Object.values(value ?? {})[0] ?? '');
}
