import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DynamoDBClient, GetItemCommand } from '@aws-sdk/client-dynamodb';
import { InvokeCommand, LambdaClient } from '@aws-sdk/client-lambda';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type App, items, mapping, type RunningApp, role, run, sdk } from './app.ts';

/** Sends what it is told to, and answers how that went. */
const caller = `
  import * as dynamodb from '${sdk('@aws-sdk/client-dynamodb')}';
  import * as lambda from '${sdk('@aws-sdk/client-lambda')}';
  import * as streams from '${sdk('@aws-sdk/client-dynamodb-streams')}';
  import { s3Client } from '${new URL('../../../shared/s3/client.ts', import.meta.url)}';
  const clients = {
    dynamodb: new dynamodb.DynamoDBClient({ maxAttempts: 1 }),
    lambda: new lambda.LambdaClient({ maxAttempts: 1 }),
    streams: new streams.DynamoDBStreamsClient({ maxAttempts: 1 }),
  };
  const modules = { dynamodb, lambda, streams };
  export const handler = async ({ service, command, input }) => {
    try {
      if (service === 's3') await s3Client()[command](...input);
      else await clients[service].send(new modules[service][command + 'Command'](input));
      return 'allowed';
    } catch (error) {
      return [error.$metadata?.httpStatusCode, error.code ?? error.name, error.message].filter(Boolean).join(' ');
    }
  };`;

const tableArn = { 'Fn::GetAtt': ['Items', 'Arn'] };
const TABLE = 'arn:aws:dynamodb:us-east-1:000000000000:table/App-Items';
const USER = 'arn:aws:sts::000000000000:assumed-role/App-Role/App-Caller';

const app = (statements: unknown[], resources: App['resources'] = {}): App => ({
  functions: { Caller: caller },
  functionProperties: { Caller: { Role: { 'Fn::GetAtt': ['Role', 'Arn'] } } },
  resources: { ...items, Role: role(statements), ...resources },
});

const call = async ({ call: invoke }: RunningApp, service: string, command: string, input: unknown): Promise<string> =>
  String((await invoke('Caller', { service, command, input })).payload);

const key = (id: string) => ({ id: { S: id } });
const TableName = 'App-Items';

describe('a call to DynamoDB', () => {
  const granted = (actions: string[], patterns: string[]) => ({
    Effect: 'Allow',
    Action: actions.map((action) => `dynamodb:${action}`),
    Resource: tableArn,
    Condition: { 'ForAllValues:StringLike': { 'dynamodb:LeadingKeys': patterns } },
  });
  const own = (id: string) => `own#${id}`;

  test('is carried out where the role allows its action on all its keys', async () => {
    const all = ['GetItem', 'BatchGetItem', 'Query', 'PutItem', 'UpdateItem', 'DeleteItem', 'ConditionCheckItem'];
    const running = await run(app([granted(all, ['own#*'])]));
    const names = { '#k': 'id' };
    const values = (id: string) => ({ ':k': { S: id } });
    const requests = (id: string): [string, unknown][] => [
      ['PutItem', { TableName, Item: key(id) }],
      ['GetItem', { TableName, Key: key(id) }],
      ['UpdateItem', { TableName, Key: key(id) }],
      ['BatchGetItem', { RequestItems: { [TableName]: { Keys: [key(own('b')), key(id)] } } }],
      ['Query', { TableName, KeyConditionExpression: 'id = :k', ExpressionAttributeValues: values(id) }],
      [
        'Query',
        {
          TableName,
          KeyConditionExpression: '#k=:k',
          ExpressionAttributeNames: names,
          ExpressionAttributeValues: values(id),
        },
      ],
      ['Query', { TableName, KeyConditions: { id: { ComparisonOperator: 'EQ', AttributeValueList: [{ S: id }] } } }],
      ['TransactGetItems', { TransactItems: [{ Get: { TableName, Key: key(id) } }] }],
      [
        'TransactWriteItems',
        { TransactItems: [{ Put: { TableName, Item: key(own('t')) } }, { Delete: { TableName, Key: key(id) } }] },
      ],
      [
        'TransactWriteItems',
        {
          TransactItems: [
            { ConditionCheck: { TableName, Key: key(id), ConditionExpression: 'attribute_not_exists(id)' } },
            { Put: { TableName, Item: key(own('u')) } },
          ],
        },
      ],
      ['DeleteItem', { TableName, Key: key(id) }],
    ];
    for (const [command, input] of requests(own('a')))
      expect(await call(running, 'dynamodb', command, input), `${command} ${JSON.stringify(input)}`).toBe('allowed');
    for (const [command, input] of requests('other'))
      expect(await call(running, 'dynamodb', command, input), command).toMatch(
        /^400 AccessDeniedException .*is not authorized to perform: dynamodb:\w+ .*LeadingKeys: .*other/,
      );
  });

  test('is refused in the words of AWS, and has no effect', async () => {
    const running = await run(app([granted(['GetItem', 'PutItem'], ['own#*'])]));
    expect(await call(running, 'dynamodb', 'DeleteItem', { TableName, Key: key('own#1') })).toBe(
      `400 AccessDeniedException User: ${USER} is not authorized to perform: dynamodb:DeleteItem on resource: ${TABLE} because no identity-based policy allows the dynamodb:DeleteItem action (dynamodb:LeadingKeys: own#1)`,
    );
    const transaction = [{ Put: { TableName, Item: key('own#1') } }, { Update: { TableName, Key: key('own#2') } }];
    expect(await call(running, 'dynamodb', 'TransactWriteItems', { TransactItems: transaction })).toMatch(
      /perform: dynamodb:UpdateItem .*own#2\)$/,
    );
    const denied = await run(
      app([
        { Effect: 'Allow', Action: '*', Resource: '*' },
        { Effect: 'Deny', Action: 'dynamodb:Scan', Resource: '*' },
      ]),
    );
    expect(await call(denied, 'dynamodb', 'Scan', { TableName })).toMatch(
      /dynamodb:Scan on resource: \S+ with an explicit deny in an identity-based policy$/,
    );
    const dynamo = new DynamoDBClient({ endpoint: running.dynamodb.endpoint, region: 'us-east-1' });
    onTestFinished(() => dynamo.destroy());
    expect((await dynamo.send(new GetItemCommand({ TableName, Key: key('own#1') }))).Item).toBeUndefined();
  });

  test('in a transaction needs each of its actions on all its keys', async () => {
    const put = granted(['PutItem'], ['own#*', 'log#*']);
    const update = {
      TableName,
      Key: key('log#1'),
      UpdateExpression: 'SET x = :x',
      ExpressionAttributeValues: { ':x': { S: 'x' } },
    };
    const writes = { TransactItems: [{ Put: { TableName, Item: key('own#1') } }, { Update: update }] };
    const apart = await run(app([put, granted(['UpdateItem'], ['log#*'])]));
    expect(await call(apart, 'dynamodb', 'TransactWriteItems', writes)).toMatch(
      /dynamodb:UpdateItem .*\(dynamodb:LeadingKeys: own#1, log#1\)$/,
    );
    const together = await run(app([put, granted(['UpdateItem'], ['own#*', 'log#*'])]));
    expect(await call(together, 'dynamodb', 'TransactWriteItems', writes)).toBe('allowed');
  });

  test('needs the index named, and what it asks of the table itself', async () => {
    const index = {
      IndexName: 'by-kind',
      KeySchema: [{ AttributeName: 'kind', KeyType: 'HASH' }],
      Projection: { ProjectionType: 'ALL' },
    };
    const { Items } = items;
    const Indexed = {
      ...Items,
      Properties: {
        ...Items.Properties,
        AttributeDefinitions: ['id', 'kind'].map((AttributeName) => ({ AttributeName, AttributeType: 'S' })),
        GlobalSecondaryIndexes: [index],
      },
    };
    const query = {
      TableName,
      IndexName: 'by-kind',
      KeyConditionExpression: 'kind = :k',
      ExpressionAttributeValues: { ':k': { S: 'topic' } },
    };
    const onIndex = { 'Fn::Join': ['', [tableArn, '/index/*']] };
    const condition = { StringEquals: { 'dynamodb:LeadingKeys': ['topic'] } };
    const with_ = (Resource: unknown) => [
      { Effect: 'Allow', Action: 'dynamodb:Query', Resource, Condition: condition },
    ];
    const allowed = await run(app(with_(onIndex), { Items: Indexed }));
    expect(await call(allowed, 'dynamodb', 'Query', query)).toBe('allowed');
    const other = { ...query, ExpressionAttributeValues: { ':k': { S: 'connector' } } };
    expect(await call(allowed, 'dynamodb', 'Query', other)).toMatch(/AccessDenied.*\/index\/by-kind because/);
    const refused = await run(app(with_(tableArn), { Items: Indexed }));
    expect(await call(refused, 'dynamodb', 'Query', query)).toMatch(/AccessDenied.*\/index\/by-kind because/);
    for (const command of ['DescribeTable', 'DescribeTimeToLive'])
      expect(await call(refused, 'dynamodb', command, { TableName })).toContain(
        `dynamodb:${command} on resource: ${TABLE}`,
      );
    expect(await call(refused, 'dynamodb', 'ListTables', {})).toContain('dynamodb:ListTables on resource: *');
    expect(await call(refused, 'dynamodb', 'GetItem', { TableName: 'Gone', Key: key('a') })).toContain(
      'on resource: arn:aws:dynamodb:us-east-1:000000000000:table/Gone',
    );
  });

  test('that the host can not judge is refused with the way out', async () => {
    const running = await run(app([{ Effect: 'Allow', Action: '*', Resource: '*' }]));
    const statement = { Statement: 'select * from "App-Items"' };
    expect(await call(running, 'dynamodb', 'ExecuteStatement', statement)).toMatch(/PartiQL.*use the item API/);
    expect(await call(running, 'streams', 'ListStreams', {})).toMatch(/does not offer DynamoDBStreams/);
  });

  test('with the key of another run is refused', async () => {
    const running = await run({
      functions: {
        Stale: `import { DynamoDBClient, ListTablesCommand } from '${sdk('@aws-sdk/client-dynamodb')}';
          const credentials = { accessKeyId: 'App-Stale.0123456789ab', secretAccessKey: 'x' };
          export const handler = () => new DynamoDBClient({ credentials, maxAttempts: 1 }).send(new ListTablesCommand({}));`,
      },
    });
    const { payload } = await running.call('Stale');
    expect(payload).toMatchObject({ errorType: 'UnrecognizedClientException' });
  });

  test('reaches an endpoint of the user, signed with the key of the user', async () => {
    const own = await run({ resources: items });
    process.env.AWS_ENDPOINT_URL_DYNAMODB = own.dynamodb.endpoint;
    onTestFinished(() => {
      delete process.env.AWS_ENDPOINT_URL_DYNAMODB;
    });
    const running = await run(app([granted(['PutItem'], ['own#*'])]));
    expect(
      await call(running, 'dynamodb', 'PutItem', { TableName, Item: { ...key('own#1'), x: { S: 'ä'.repeat(9e4) } } }),
    ).toBe('allowed');
    expect(await call(running, 'dynamodb', 'PutItem', { TableName, Item: key('other') })).toMatch(/AccessDenied/);
    const dynamo = new DynamoDBClient({ endpoint: own.dynamodb.endpoint, region: 'us-east-1' });
    onTestFinished(() => dynamo.destroy());
    expect((await dynamo.send(new GetItemCommand({ TableName, Key: key('own#1') }))).Item).toBeDefined();
  });
});

describe('a call to S3', () => {
  const bucket = { Files: { Type: 'AWS::S3::Bucket' } };
  const arn = (path = '') => ({ 'Fn::Join': ['', [{ 'Fn::GetAtt': ['Files', 'Arn'] }, path]] });
  const allow = (Action: string | string[], Resource: unknown, Condition = {}) => ({
    Effect: 'Allow',
    Action,
    Resource,
    Condition,
  });

  test('is carried out where the role allows it', async () => {
    const running = await run(
      app(
        [
          allow(['s3:GetObject', 's3:PutObject'], arn('/out/*')),
          allow('s3:ListBucket', arn(), { StringLike: { 's3:prefix': 'out/*' } }),
        ],
        bucket,
      ),
    );
    await writeFile(join(running.stateDir, 's3', 'app-files', 'secret'), 'x');
    const s3 = (command: string, ...input: unknown[]) => call(running, 's3', command, ['app-files', ...input]);
    expect(await s3('createUpload', 'out/a')).toBe('allowed');
    expect(await s3('get', 'secret')).toMatch(/^ACCESS_DENIED .*s3:GetObject on arn:aws:s3:::app-files\/secret/);
    expect(await s3('createUpload', 'secret')).toMatch(/s3:PutObject on arn:aws:s3:::app-files\/secret/);
    expect(await s3('delete', 'out/a')).toMatch(/s3:DeleteObject on arn:aws:s3:::app-files\/out\/a/);
    expect(await s3('abortUpload', 'out/a', 'id')).toMatch(/s3:AbortMultipartUpload/);
    expect(await s3('listUploads', 'out/')).toMatch(/s3:ListBucketMultipartUploads on arn:aws:s3:::app-files/);
  });
});

describe('a call of another function', () => {
  const calledArn = { 'Fn::GetAtt': ['Called', 'Arn'] };
  const invoke = async (statements: unknown[], resources: App['resources'] = {}) => {
    const { functions, functionProperties, resources: others } = app(statements, resources);
    const running = await run({
      functions: { ...functions, Called: 'export const handler = async () => {};' },
      functionProperties: functionProperties!,
      resources: others!,
    });
    return call(running, 'lambda', 'Invoke', { FunctionName: 'App-Called' });
  };
  const permission = (Principal: unknown, Action = 'lambda:InvokeFunction') => ({
    Permission: { Type: 'AWS::Lambda::Permission', Properties: { FunctionName: calledArn, Action, Principal } },
  });

  test('is carried out where the role of the caller allows it, or the function itself', async () => {
    expect(await invoke([{ Effect: 'Allow', Action: 'lambda:InvokeFunction', Resource: calledArn }])).toBe('allowed');
    expect(await invoke([], permission({ 'Fn::GetAtt': ['Role', 'Arn'] }))).toBe('allowed');
  });

  test('is refused otherwise', async () => {
    const denied = `403 AccessDeniedException User: ${USER} is not authorized to perform: lambda:InvokeFunction on resource: arn:aws:lambda:us-east-1:000000000000:function:App-Called because no identity-based policy allows the lambda:InvokeFunction action`;
    expect(await invoke([])).toBe(denied);
    expect(await invoke([], permission('scheduler.amazonaws.com'))).toBe(denied);
    expect(await invoke([], permission({ 'Fn::GetAtt': ['Everything', 'Arn'] }))).toBe(denied);
    expect(await invoke([], permission({ 'Fn::GetAtt': ['Role', 'Arn'] }, 'lambda:GetFunction'))).toBe(denied);
  });

  test('is the right of whoever has the key of the host', async () => {
    const running = await run(app([]));
    const as = async (accessKeyId: string) => {
      const credentials = { accessKeyId, secretAccessKey: 'x' };
      const lambda = new LambdaClient({
        endpoint: running.lambdaEndpoint,
        region: 'us-east-1',
        credentials,
        maxAttempts: 1,
      });
      onTestFinished(() => lambda.destroy());
      return lambda.send(new InvokeCommand({ FunctionName: 'App-Caller', InvocationType: 'DryRun' })).then(
        ({ StatusCode }) => StatusCode,
        (error: Error) => error.name,
      );
    };
    expect(await as('local')).toBe(204);
    expect(await as('AKIAANYBODY')).toBe('UnrecognizedClientException');
  });
});

describe('policies', () => {
  const statement = { Effect: 'Allow', Action: 'dynamodb:GetItem', Resource: tableArn };
  const roles = [{ Ref: 'Role' }];
  const document = { Statement: [statement] };

  test.each<[name: string, resources: NonNullable<App['resources']>]>([
    ['in the role', { Role: role([statement]) }],
    ['beside it', { P: { Type: 'AWS::IAM::Policy', Properties: { PolicyDocument: document, Roles: roles } } }],
    [
      'of its own',
      { P: { Type: 'AWS::IAM::RolePolicy', Properties: { PolicyDocument: document, RoleName: roles[0] } } },
    ],
    [
      'managed, attached there',
      { P: { Type: 'AWS::IAM::ManagedPolicy', Properties: { PolicyDocument: document, Roles: roles } } },
    ],
    [
      'managed, attached here',
      {
        P: { Type: 'AWS::IAM::ManagedPolicy', Properties: { PolicyDocument: document } },
        Role: {
          Type: 'AWS::IAM::Role',
          Properties: {
            ManagedPolicyArns: ['arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole', { Ref: 'P' }],
          },
        },
      },
    ],
  ])('%s count', async (_name, resources) => {
    const other = { Other: { Type: 'AWS::IAM::Policy', Properties: { PolicyDocument: document, Roles: ['other'] } } };
    const running = await run(app([], { ...resources, ...other }));
    expect(await call(running, 'dynamodb', 'GetItem', { TableName, Key: key('a') })).toBe('allowed');
    expect(await call(running, 'dynamodb', 'PutItem', { TableName, Item: key('a') })).toMatch(/AccessDenied/);
  });

  test('of another role do not count', async () => {
    const other = {
      Second: role([]),
      P: { Type: 'AWS::IAM::Policy', Properties: { PolicyDocument: document, Roles: [{ Ref: 'Second' }] } },
    };
    const running = await run(app([], other));
    expect(await call(running, 'dynamodb', 'GetItem', { TableName, Key: key('a') })).toMatch(/AccessDenied/);
  });

  test.each<[name: string, resources: NonNullable<App['resources']>, message: RegExp]>([
    [
      'a condition',
      { Role: role([{ ...statement, Condition: { Bool: { 'aws:SecureTransport': 'true' } } }]) },
      /App\/Role \(AWS::IAM::Role\): the statement on dynamodb:GetItem: the local host does not know Bool/,
    ],
    [
      'a policy of AWS',
      {
        Role: {
          Type: 'AWS::IAM::Role',
          Properties: { ManagedPolicyArns: ['arn:aws:iam::aws:policy/AdministratorAccess'] },
        },
      },
      /App\/Role .*doesn't know what arn:aws:iam::aws:policy\/AdministratorAccess allows; write its statements/,
    ],
    [
      'a boundary',
      { Role: { Type: 'AWS::IAM::Role', Properties: { PermissionsBoundary: 'arn:aws:iam::0:policy/x' } } },
      /App\/Role .*permissions boundaries are not evaluated/s,
    ],
  ])('with %s that the host does not know stop the start', async (_name, resources, message) => {
    await expect(run(app([], resources))).rejects.toThrow(message);
  });

  test('of a role that is not in the app stop the start', async () => {
    const { functions } = app([]);
    const Role = 'arn:aws:iam::000000000000:role/elsewhere';
    await expect(run({ functions: functions!, functionProperties: { Caller: { Role } } })).rejects.toThrow(
      `App/Caller (AWS::Lambda::Function): role ${Role} is not in this app`,
    );
  });

  test('may name what a custom resource gives', async () => {
    const PROVIDER = `export const handler = async (event) => {
      const body = { Status: 'SUCCESS', PhysicalResourceId: 'p', Data: { arn: '${TABLE}' } };
      await fetch(event.ResponseURL, { method: 'PUT', body: JSON.stringify(body) });
    };`;
    const named = { ...statement, Resource: { 'Fn::GetAtt': ['Thing', 'arn'] } };
    const { functions, functionProperties, resources } = app([named]);
    const Thing = { Type: 'Custom::Thing', Properties: { ServiceToken: { 'Fn::GetAtt': ['Provider', 'Arn'] } } };
    const running = await run({
      functions: { ...functions, Provider: PROVIDER },
      functionProperties: functionProperties!,
      resources: { ...resources, Thing },
    });
    expect(await call(running, 'dynamodb', 'GetItem', { TableName, Key: key('a') })).toBe('allowed');
  });
});

test('a schedule whose role may not invoke its target stops the start', async () => {
  const schedule = {
    Every: {
      Type: 'AWS::Scheduler::Schedule',
      Properties: {
        ScheduleExpression: 'rate(1 day)',
        Target: { Arn: { 'Fn::GetAtt': ['Caller', 'Arn'] }, RoleArn: { 'Fn::GetAtt': ['Scheduler', 'Arn'] } },
      },
    },
  };
  const invoke = { Effect: 'Allow', Action: 'lambda:InvokeFunction', Resource: '*' };
  const permission = {
    Permission: {
      Type: 'AWS::Lambda::Permission',
      Properties: {
        FunctionName: { Ref: 'Caller' },
        Action: 'lambda:InvokeFunction',
        Principal: { 'Fn::GetAtt': ['Scheduler', 'Arn'] },
      },
    },
  };
  await expect(run(app([], { ...schedule, Scheduler: role([]) }))).rejects.toThrow(
    /App\/Every .*role \S+App-Scheduler is not authorized to perform: lambda:InvokeFunction on \S+App-Caller/,
  );
  for (const scheduler of [{ Scheduler: role([invoke]) }, { Scheduler: role([]), ...permission }])
    expect((await run(app([], { ...schedule, ...scheduler }))).functions).toHaveLength(1);
});

test('a queue or a destination that the role of the function does not reach stops the start', async () => {
  const queueArn = { 'Fn::GetAtt': ['Queue', 'Arn'] };
  const Queue = { Type: 'AWS::SQS::Queue', Properties: { VisibilityTimeout: 60 } };
  const Messages = {
    Type: 'AWS::Lambda::EventSourceMapping',
    Properties: { EventSourceArn: queueArn, FunctionName: { Ref: 'Caller' } },
  };
  const receive = { Effect: 'Allow', Action: ['sqs:ReceiveMessage', 'sqs:GetQueueAttributes'], Resource: queueArn };
  await expect(run(app([receive], { Queue, Messages }))).rejects.toThrow(
    /^the mapping of \S+App-Queue: .* perform: sqs:DeleteMessage on resource: \S+App-Queue because/,
  );
  const config = (Destination: unknown) => ({
    Type: 'AWS::Lambda::EventInvokeConfig',
    Properties: { FunctionName: { Ref: 'Caller' }, DestinationConfig: { OnFailure: { Destination } } },
  });
  await expect(run(app([receive], { Queue, Config: config(queueArn) }))).rejects.toThrow(
    /^the on-failure destination of App-Caller: .* perform: sqs:SendMessage/,
  );
  await expect(run(app([], { Config: config({ 'Fn::GetAtt': ['Caller', 'Arn'] }) }))).rejects.toThrow(
    /^the on-failure destination of App-Caller: .* perform: lambda:InvokeFunction on resource: \S+:App-Caller/,
  );
});

test('a stream whose function may not read it stops the start', async () => {
  const resources = { Stream: mapping('Caller') };
  const read = ['DescribeStream', 'GetRecords', 'GetShardIterator'].map((action) => `dynamodb:${action}`);
  const onStream = (actions: string[]) => ({
    Effect: 'Allow',
    Action: actions,
    Resource: { 'Fn::GetAtt': ['Items', 'StreamArn'] },
  });
  await expect(run(app([onStream(read.slice(1))], resources))).rejects.toThrow(
    /App-Stream.*is not authorized to perform: dynamodb:DescribeStream/,
  );
  const running = await run(app([onStream(read)], resources));
  expect(running.functions).toHaveLength(1);
});
