import {
  type AttributeDefinition,
  CreateTableCommand,
  DescribeTableCommand,
  DescribeTimeToLiveCommand,
  type DynamoDBClient,
  type GlobalSecondaryIndex,
  type KeySchemaElement,
  type LocalSecondaryIndex,
  ResourceNotFoundException,
  type StreamViewType,
  type TableDescription,
  UpdateTableCommand,
  UpdateTimeToLiveCommand,
  waitUntilTableExists,
} from '@aws-sdk/client-dynamodb';
import * as z from 'zod';
import type { TableKeys } from './dynamodb-access.ts';
import type { Intrinsics } from './intrinsics.ts';
import { flag, parseProperties } from './properties.ts';
import { type Resource, resourceName } from './template.ts';

export interface Table extends TableKeys {
  name: string;
  /** As the template's functions see it: `Fn::GetAtt [table, StreamArn]`, in the stack's region. */
  streamArn: string | undefined;
  /** As the endpoint calls it; emulators put a name of their own in the place of the region. */
  endpointStreamArn: string | undefined;
  sortKey: string | undefined;
  timeToLiveAttribute: string | undefined;
}

const key = z.array(z.object({ AttributeName: z.string(), KeyType: z.enum(['HASH', 'RANGE']) }));
const projection = z.object({
  ProjectionType: z.enum(['ALL', 'KEYS_ONLY', 'INCLUDE']),
  NonKeyAttributes: z.array(z.string()).optional(),
});
const indexes = z.array(z.object({ IndexName: z.string(), KeySchema: key, Projection: projection })).optional();

const tableProperties = z.object({
  KeySchema: key,
  AttributeDefinitions: z.array(z.object({ AttributeName: z.string(), AttributeType: z.enum(['S', 'N', 'B']) })),
  GlobalSecondaryIndexes: indexes,
  LocalSecondaryIndexes: indexes,
  StreamSpecification: z
    .object({ StreamViewType: z.enum(['KEYS_ONLY', 'NEW_IMAGE', 'OLD_IMAGE', 'NEW_AND_OLD_IMAGES']) })
    .optional(),
  TimeToLiveSpecification: z.object({ AttributeName: z.string().optional(), Enabled: flag }).optional(),
});

interface TableShape {
  KeySchema: KeySchemaElement[];
  AttributeDefinitions: AttributeDefinition[];
  GlobalSecondaryIndexes?: GlobalSecondaryIndex[] | undefined;
  LocalSecondaryIndexes?: LocalSecondaryIndex[] | undefined;
  StreamSpecification?: { StreamViewType: StreamViewType } | undefined;
  TimeToLiveSpecification?: { AttributeName?: string | undefined; Enabled: boolean } | undefined;
}

export function isTable(resource: Resource): boolean {
  return resource.type === 'AWS::DynamoDB::Table' || resource.type === 'AWS::DynamoDB::GlobalTable';
}

/** Creates the table, or brings streams, indexes and TTL of an existing one up to the template; its items stay. */
export async function provideTable(resource: Resource, intrinsics: Intrinsics, client: DynamoDBClient): Promise<Table> {
  const { name, attributes } = intrinsics.identityOf(resource);
  const shape: TableShape = parseProperties(tableProperties, resource, intrinsics);
  const existing = await describe(client, name);
  if (existing) await bringUpToDate(resource, client, name, shape, existing);
  else await create(client, name, shape);
  await provideTimeToLive(client, name, shape);
  const table = (await client.send(new DescribeTableCommand({ TableName: name }))).Table;
  const streamArn = shape.StreamSpecification ? `${attributes.Arn}/stream/${table?.LatestStreamLabel}` : undefined;
  intrinsics.assign(resource, {
    attributes: { TableId: table?.TableId ?? name, ...(streamArn ? { StreamArn: streamArn } : {}) },
  });
  return {
    name,
    arn: attributes.Arn ?? name,
    partitionKey: partitionKeyOf(shape),
    sortKey: shape.KeySchema.find(({ KeyType }) => KeyType === 'RANGE')?.AttributeName,
    indexes: Object.fromEntries(
      [...(shape.GlobalSecondaryIndexes ?? []), ...(shape.LocalSecondaryIndexes ?? [])].map((index) => [
        index.IndexName ?? '',
        partitionKeyOf(index),
      ]),
    ),
    timeToLiveAttribute: shape.TimeToLiveSpecification?.Enabled
      ? shape.TimeToLiveSpecification.AttributeName
      : undefined,
    streamArn,
    endpointStreamArn: streamArn ? table?.LatestStreamArn : undefined,
  };
}

async function create(client: DynamoDBClient, name: string, shape: TableShape): Promise<void> {
  await client.send(
    new CreateTableCommand({
      TableName: name,
      BillingMode: 'PAY_PER_REQUEST',
      KeySchema: shape.KeySchema,
      AttributeDefinitions: shape.AttributeDefinitions,
      GlobalSecondaryIndexes: shape.GlobalSecondaryIndexes,
      LocalSecondaryIndexes: shape.LocalSecondaryIndexes,
      ...(shape.StreamSpecification
        ? { StreamSpecification: { StreamEnabled: true, StreamViewType: shape.StreamSpecification.StreamViewType } }
        : {}),
    }),
  );
  await waitUntilTableExists({ client, maxWaitTime: 60, minDelay: 1, maxDelay: 2 }, { TableName: name });
}

async function bringUpToDate(
  resource: Resource,
  client: DynamoDBClient,
  name: string,
  shape: TableShape,
  existing: TableDescription,
): Promise<void> {
  if (keyText(existing.KeySchema) !== keyText(shape.KeySchema)) {
    throw new Error(
      `${resourceName(resource)}: table ${name} has the key ${keyText(existing.KeySchema)}, the template says ${keyText(shape.KeySchema)}; pass another --state DIR or remove the old one`,
    );
  }
  for (const index of shape.GlobalSecondaryIndexes ?? []) {
    if (existing.GlobalSecondaryIndexes?.some(({ IndexName }) => IndexName === index.IndexName)) continue;
    await client.send(
      new UpdateTableCommand({
        TableName: name,
        AttributeDefinitions: shape.AttributeDefinitions,
        GlobalSecondaryIndexUpdates: [{ Create: index }],
      }),
    );
  }
  await provideStream(client, name, shape, existing);
}

async function provideStream(
  client: DynamoDBClient,
  name: string,
  shape: TableShape,
  existing: TableDescription,
): Promise<void> {
  const wanted = shape.StreamSpecification?.StreamViewType;
  const present = existing.StreamSpecification?.StreamEnabled ? existing.StreamSpecification.StreamViewType : undefined;
  if (wanted === present) return;
  const set = (specification: { StreamEnabled: boolean; StreamViewType?: StreamViewType }) =>
    client.send(new UpdateTableCommand({ TableName: name, StreamSpecification: specification }));
  if (present) await set({ StreamEnabled: false });
  if (wanted) await set({ StreamEnabled: true, StreamViewType: wanted });
}

async function provideTimeToLive(client: DynamoDBClient, name: string, shape: TableShape): Promise<void> {
  const wanted = shape.TimeToLiveSpecification;
  if (!wanted?.Enabled) return;
  const { TimeToLiveDescription: present } = await client.send(new DescribeTimeToLiveCommand({ TableName: name }));
  if (present?.TimeToLiveStatus === 'ENABLED' && present.AttributeName === wanted.AttributeName) return;
  await client.send(
    new UpdateTimeToLiveCommand({
      TableName: name,
      TimeToLiveSpecification: { AttributeName: wanted.AttributeName, Enabled: true },
    }),
  );
}

async function describe(client: DynamoDBClient, name: string): Promise<TableDescription | undefined> {
  try {
    return (await client.send(new DescribeTableCommand({ TableName: name }))).Table;
  } catch (error) {
    if (error instanceof ResourceNotFoundException) return undefined;
    throw error;
  }
}

function partitionKeyOf({ KeySchema = [] }: { KeySchema?: KeySchemaElement[] | undefined }): string {
  return KeySchema.find(({ KeyType }) => KeyType === 'HASH')?.AttributeName ?? '';
}

function keyText(schema: KeySchemaElement[] | undefined): string {
  return (schema ?? []).map(({ AttributeName, KeyType }) => `${AttributeName} (${KeyType})`).join(', ');
}
