import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { App, CfnOutput, CustomResource, Duration, Stack } from 'aws-cdk-lib';
import { AttributeType, Billing, StreamViewType, TableV2 } from 'aws-cdk-lib/aws-dynamodb';
import {
  Code,
  FilterCriteria,
  FilterRule,
  Function as LambdaFunction,
  Runtime,
  StartingPosition,
} from 'aws-cdk-lib/aws-lambda';
import { DynamoEventSource } from 'aws-cdk-lib/aws-lambda-event-sources';
import { Bucket } from 'aws-cdk-lib/aws-s3';
import { Schedule, ScheduleExpression, ScheduleTargetInput } from 'aws-cdk-lib/aws-scheduler';
import { LambdaInvoke } from 'aws-cdk-lib/aws-scheduler-targets';
import { describe, expect, test } from 'vitest';
import { startHost } from '../../../infra/local/host.ts';
import { createIntrinsics } from '../../../infra/local/intrinsics.ts';
import { loadAssembly } from '../../../infra/local/template.ts';
import { until } from '../../kit/until.ts';
import { sdk, sub, temporaryDirectory, writeAssembly } from './app.ts';

/** The value as a property of a resource next to a table "T", a bucket "B" and a parameter "P". */
async function resolved(value: unknown): Promise<unknown> {
  const directory = await writeAssembly(join(await temporaryDirectory(), 'cdk.out'), {
    template: {
      Parameters: {
        P: { Type: 'String', Default: 'given' },
        Boot: { Type: 'AWS::SSM::Parameter::Value<String>', Default: '/path' },
      },
      Mappings: { M: { a: { b: 'mapped' } } },
      Conditions: {
        IsLocal: { 'Fn::Equals': [{ Ref: 'AWS::Region' }, 'us-east-1'] },
        IsNot: { 'Fn::Not': [{ Condition: 'IsLocal' }] },
      },
      Outputs: { Out: { Value: { 'Fn::GetAtt': ['T', 'Arn'] }, Export: { Name: sub('<AWS::StackName>:Table') } } },
    },
    resources: {
      T: { Type: 'AWS::DynamoDB::Table', Properties: { TableName: { 'Fn::Join': ['-', [{ Ref: 'P' }, 'table']] } } },
      B: { Type: 'AWS::S3::Bucket' },
      Absent: { Type: 'AWS::S3::Bucket', Condition: 'IsNot' } as never,
      Subject: { Type: 'AWS::Lambda::Permission', Properties: { value } },
    },
  });
  const assembly = await loadAssembly(directory, 'us-east-1');
  const subject = assembly.stacks[0]!.resources.get('Subject')!;
  return createIntrinsics(assembly).properties(subject).value;
}

describe('intrinsics', () => {
  test.each<[name: string, value: unknown, expected: unknown]>([
    ['Ref of a resource with a name', { Ref: 'T' }, 'given-table'],
    ['Ref of a resource without', { Ref: 'B' }, 'app-b'],
    ['GetAtt', { 'Fn::GetAtt': ['T', 'Arn'] }, 'arn:aws:dynamodb:us-east-1:000000000000:table/given-table'],
    ['GetAtt as text', { 'Fn::GetAtt': 'B.Arn' }, 'arn:aws:s3:::app-b'],
    ['Sub', sub('<T>/<B.Arn>/<AWS::Partition>/<!Kept>'), `given-table/arn:aws:s3:::app-b/aws/${'$'}{Kept}`],
    ['Sub with variables', { 'Fn::Sub': [sub('<x>-<P>')['Fn::Sub'], { x: { Ref: 'B' } }] }, 'app-b-given'],
    ['Join and Select and Split', { 'Fn::Select': ['1', { 'Fn::Split': ['-', { Ref: 'T' }] }] }, 'table'],
    ['If', { 'Fn::If': ['IsNot', 1, { 'Fn::If': ['IsLocal', 2, 3] }] }, 2],
    ['NoValue', { a: { Ref: 'AWS::NoValue' }, b: [{ Ref: 'AWS::NoValue' }, 1] }, { b: [1] }],
    ['FindInMap', { 'Fn::FindInMap': ['M', 'a', 'b'] }, 'mapped'],
    ['ImportValue', { 'Fn::ImportValue': 'App:Table' }, 'arn:aws:dynamodb:us-east-1:000000000000:table/given-table'],
  ])('%s', async (_name, value, expected) => {
    expect(await resolved(value)).toEqual(expected);
  });

  test.each<[value: unknown, message: string]>([
    [{ Ref: 'Gone' }, 'refers to Gone, which is not in stack App'],
    [{ Ref: 'Absent' }, 'refers to Absent, which is not in stack App'],
    [{ Ref: 'Boot' }, 'the value of parameter Boot is not known locally'],
    [{ 'Fn::GetAtt': ['B', 'Website'] }, 'attribute Website of App/B (AWS::S3::Bucket) is not known locally'],
    [{ 'Fn::Cidr': ['10.0.0.0/16', 6] }, 'Fn::Cidr cannot be resolved locally'],
    [{ 'Fn::ImportValue': 'x' }, 'exports x'],
    ['{{resolve:secretsmanager:s}}', 'is read by CloudFormation from AWS'],
  ])('%j is refused, naming the resource', async (value, message) => {
    await expect(resolved(value)).rejects.toThrow(message);
    await expect(resolved(value)).rejects.toThrow('App/Subject (AWS::Lambda::Permission)');
  });
});

test('a directory that is no assembly is refused', async () => {
  await expect(startHost({ assembly: '/nowhere', stateDir: await temporaryDirectory() })).rejects.toThrow(
    'cannot read /nowhere/manifest.json; synthesize the app again',
  );
});

test('a synthesized CDK app runs: two stacks, table, stream, schedule, bucket, custom resource', async () => {
  const directory = await temporaryDirectory();
  const bundle = async (name: string, code: string) => {
    await mkdir(join(directory, name));
    await writeFile(join(directory, name, 'index.mjs'), code);
    return {
      runtime: Runtime.NODEJS_24_X,
      handler: 'index.handler',
      code: Code.fromAsset(join(directory, name)),
      timeout: Duration.seconds(30),
    };
  };
  const app = new App({ outdir: join(directory, 'cdk.out') });
  const data = new Stack(app, 'Data');
  const items = new TableV2(data, 'Items', {
    partitionKey: { name: 'id', type: AttributeType.STRING },
    billing: Billing.onDemand(),
    dynamoStream: StreamViewType.NEW_IMAGE,
  });
  const work = new Stack(app, 'Work');
  const writer = new LambdaFunction(
    work,
    'Writer',
    await bundle(
      'writer',
      `
    import { DynamoDBClient, PutItemCommand } from '${sdk('@aws-sdk/client-dynamodb')}';
    const client = new DynamoDBClient();
    export const handler = async ({ id }) => {
      await client.send(new PutItemCommand({ TableName: process.env.TABLE, Item: { id: { S: id }, by: { S: process.env.SETTING } } }));
    };`,
    ),
  );
  const reader = new LambdaFunction(
    work,
    'Reader',
    await bundle(
      'reader',
      `export const handler = async ({ Records }) => Records.forEach(({ dynamodb }) => console.log(dynamodb.NewImage.id.S + ' by ' + dynamodb.NewImage.by.S));`,
    ),
  );
  const provider = new LambdaFunction(
    work,
    'Provider',
    await bundle(
      'provider',
      `export const handler = async (event) => {
    await fetch(event.ResponseURL, { method: 'PUT', body: JSON.stringify({ Status: 'SUCCESS', PhysicalResourceId: 'setting', Data: { Value: 'the ' + event.ResourceProperties.Name } }) });
  };`,
    ),
  );
  const setting = new CustomResource(work, 'Setting', {
    serviceToken: provider.functionArn,
    properties: { Name: 'schedule' },
  });
  writer.addEnvironment('TABLE', items.tableName);
  writer.addEnvironment('SETTING', setting.getAttString('Value'));
  items.grantWriteData(writer);
  new Bucket(work, 'Bodies').grantRead(reader);
  new Schedule(work, 'Every', {
    schedule: ScheduleExpression.rate(Duration.minutes(1)),
    target: new LambdaInvoke(writer, { input: ScheduleTargetInput.fromObject({ id: 'row' }) }),
  });
  reader.addEventSource(
    new DynamoEventSource(items, {
      startingPosition: StartingPosition.TRIM_HORIZON,
      filters: [FilterCriteria.filter({ eventName: FilterRule.isEqual('INSERT') })],
      bisectBatchOnError: true,
      retryAttempts: 2,
      reportBatchItemFailures: true,
    }),
  );
  new CfnOutput(work, 'Name', { value: reader.functionName });
  const assembly = app.synth().directory;

  const lines: string[] = [];
  const host = await startHost({
    assembly,
    stateDir: join(directory, 'state'),
    onLog: (name, line) => lines.push(`${name}: ${line}`),
  });
  try {
    await until(() => lines.some((line) => line.includes('row by the schedule')));
  } finally {
    await host.stop();
  }
});
