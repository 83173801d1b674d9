import { DynamoDBClient, PutItemCommand, type PutItemCommandInput } from '@aws-sdk/client-dynamodb';
import { describe, expect, onTestFinished, test } from 'vitest';
import { until } from '../../kit/until.ts';
import { items, mapping, type RunningApp, run, temporaryDirectory } from './app.ts';

/** Prints the ids it got and fails on a batch that holds "bad". */
const READER = `export const handler = async ({ Records }) => {
  const ids = Records.map((record) => record.dynamodb.Keys.id.S);
  console.log(ids.join(' '));
  if (ids.includes('bad')) throw new Error('bad record');
};`;
const PRINT = 'export const handler = async (event) => console.log(JSON.stringify(event));';
const destination = { OnFailure: { Destination: { 'Fn::GetAtt': ['Failed', 'Arn'] } } };

function writer(app: RunningApp) {
  const client = new DynamoDBClient({ endpoint: app.dynamodb.endpoint, region: 'us-east-1' });
  onTestFinished(() => client.destroy());
  return async (id: string, more: PutItemCommandInput['Item'] = {}) => {
    await client.send(new PutItemCommand({ TableName: 'App-Items', Item: { id: { S: id }, ...more } }));
  };
}

/** Writes before anything reads: one poll sees all, so the batches are known. */
async function prepared(ids: string[]): Promise<string> {
  const directory = await temporaryDirectory();
  const app = await run({ resources: items }, { directory });
  const put = writer(app);
  for (const id of ids) await put(id);
  await app.stop();
  return directory;
}

describe('a stream', () => {
  test('delivers the event that AWS delivers, soon', async () => {
    const app = await run({ functions: { Reader: PRINT }, resources: { ...items, Stream: mapping('Reader') } });
    await app.call('Reader');
    await app.idle();
    const atMs = Date.now();
    await writer(app)('a', {
      bytes: { B: new Uint8Array([1, 2]) },
      list: { L: [{ N: '1' }, { BS: [new Uint8Array([3])] }] },
    });
    await until(() => app.lines('Reader').length === 2);
    expect(Date.now() - atMs).toBeLessThan(300);
    const { Records } = JSON.parse(app.lines('Reader')[1]!);
    expect(Records).toEqual([
      {
        eventID: expect.any(String),
        eventName: 'INSERT',
        eventVersion: '1.1',
        eventSource: 'aws:dynamodb',
        awsRegion: 'us-east-1',
        dynamodb: {
          ApproximateCreationDateTime: expect.any(Number),
          Keys: { id: { S: 'a' } },
          NewImage: { id: { S: 'a' }, bytes: { B: 'AQI=' }, list: { L: [{ N: '1' }, { BS: ['Aw=='] }] } },
          SequenceNumber: expect.any(String),
          SizeBytes: expect.any(Number),
          StreamViewType: 'NEW_IMAGE',
        },
        eventSourceARN: expect.stringMatching(/^arn:aws:dynamodb:us-east-1:000000000000:table\/App-Items\/stream\//),
      },
    ]);
  });

  test('delivers only what a filter lets through', async () => {
    const filters = [
      { Pattern: JSON.stringify({ eventName: ['INSERT'], dynamodb: { Keys: { id: { S: [{ prefix: 'yes' }] } } } }) },
    ];
    const app = await run({
      functions: { Reader: READER },
      resources: { ...items, Stream: mapping('Reader', { FilterCriteria: { Filters: filters } }) },
    });
    const put = writer(app);
    for (const id of ['no1', 'yes1', 'yes1', 'no2', 'yes2']) await put(id);
    await app.idle();
    expect(app.lines('Reader').join(' ')).toBe('yes1 yes2');
  });

  test('cuts batches by size and gathers them over the window', async () => {
    const directory = await prepared(['1', '2', '3', '4', '5']);
    const bySize = { ...items, Stream: mapping('Reader', { BatchSize: 2 }) };
    const app = await run({ functions: { Reader: READER }, resources: bySize }, { directory });
    await app.idle();
    expect(app.lines('Reader')).toEqual(['1 2', '3 4', '5']);
    await app.stop();

    const byTime = {
      ...items,
      Slow: mapping('Reader', { MaximumBatchingWindowInSeconds: 1, StartingPosition: 'LATEST' }),
    };
    const slow = await run({ functions: { Reader: READER }, resources: byTime }, { directory });
    const put = writer(slow);
    await put('6');
    await put('7');
    await slow.idle();
    expect(slow.lines('Reader')).toEqual(['6 7']);
  });

  test('goes on where it stopped, also when the first start was at the latest', async () => {
    const directory = await prepared(['old']);
    const resources = { ...items, Stream: mapping('Reader', { StartingPosition: 'LATEST' }) };
    await (await run({ functions: { Reader: READER }, resources }, { directory })).stop();

    const without = await run({ resources: items }, { directory });
    await writer(without)('between');
    await without.stop();

    const again = await run({ functions: { Reader: READER }, resources }, { directory });
    await again.idle();
    expect(again.lines('Reader')).toEqual(['between']);
    await again.stop();

    const third = await run({ functions: { Reader: READER }, resources }, { directory });
    await writer(third)('last');
    await third.idle();
    expect(third.lines('Reader')).toEqual(['last']);
  });

  test('that is disabled delivers nothing', async () => {
    const app = await run({
      functions: { Reader: READER },
      resources: { ...items, Stream: mapping('Reader', { Enabled: false }) },
    });
    await writer(app)('a');
    await app.idle();
    expect(app.lines('Reader')).toEqual([]);
  });

  test('of something else than a table is refused', async () => {
    const Stream = mapping('Reader', { EventSourceArn: 'arn:aws:kinesis:us-east-1:0:stream/s' });
    await expect(run({ functions: { Reader: READER }, resources: { Stream } })).rejects.toThrow(
      /App\/Stream .*arn:aws:kinesis:us-east-1:0:stream\/s is not the stream of a DynamoDB table/,
    );
  });
});

describe('a batch that fails', () => {
  test('blocks its shard and is retried until it succeeds', async () => {
    const flaky = `let calls = 0; export const handler = async ({ Records }) => {
      calls += 1;
      console.log(calls + ': ' + Records.map((record) => record.dynamodb.Keys.id.S).join(' '));
      if (calls < 4) throw new Error('not yet');
    };`;
    const directory = await prepared(['a', 'b', 'c']);
    const resources = { ...items, Stream: mapping('Reader', { BatchSize: 2 }) };
    const app = await run({ functions: { Reader: flaky }, resources }, { directory });
    await app.idle();
    expect(app.lines('Reader')).toEqual(['1: a b', '2: a b', '3: a b', '4: a b', '5: c']);
  });

  test('goes to the on-failure destination when its retries are used up', async () => {
    const directory = await prepared(['a', 'bad', 'c']);
    const resources = {
      ...items,
      Stream: mapping('Reader', { BatchSize: 2, MaximumRetryAttempts: 1, DestinationConfig: destination }),
    };
    const app = await run({ functions: { Reader: READER, Failed: PRINT }, resources }, { directory });
    await app.idle();
    expect(app.lines('Reader')).toEqual(['a bad', 'a bad', 'c']);
    expect(app.lines('Failed').map((line) => JSON.parse(line))).toEqual([
      {
        version: '1.0',
        timestamp: expect.any(String),
        requestContext: {
          requestId: expect.any(String),
          functionArn: 'arn:aws:lambda:us-east-1:000000000000:function:App-Reader',
          condition: 'RetryAttemptsExhausted',
          approximateInvokeCount: 2,
        },
        responseContext: { statusCode: 200, executedVersion: '$LATEST', functionError: 'Unhandled' },
        DDBStreamBatchInfo: {
          shardId: expect.any(String),
          startSequenceNumber: '1',
          endSequenceNumber: '2',
          approximateArrivalOfFirstRecord: expect.any(String),
          approximateArrivalOfLastRecord: expect.any(String),
          batchSize: 2,
          streamArn: expect.stringContaining('table/App-Items/stream/'),
        },
      },
    ]);
  });

  test('is split until the bad record stands alone', async () => {
    const directory = await prepared(['a', 'b', 'bad', 'c']);
    const resources = {
      ...items,
      Stream: mapping('Reader', {
        BisectBatchOnFunctionError: true,
        MaximumRetryAttempts: 0,
        DestinationConfig: destination,
      }),
    };
    const app = await run({ functions: { Reader: READER, Failed: PRINT }, resources }, { directory });
    await app.idle();
    expect(app.lines('Reader')).toEqual(['a b bad c', 'a b', 'bad c', 'bad', 'c']);
    expect(JSON.parse(app.lines('Failed')[0]!).DDBStreamBatchInfo).toMatchObject({
      startSequenceNumber: '3',
      batchSize: 1,
    });
  });

  test('is retried from the lowest record that was reported', async () => {
    const partial = `const seen = new Set(); export const handler = async ({ Records }) => {
      const ids = Records.map((record) => record.dynamodb.Keys.id.S);
      console.log(ids.join(' '));
      const failed = Records.filter((record) => ['2', '4'].includes(record.dynamodb.Keys.id.S) && !seen.has(record.eventID));
      for (const record of failed) seen.add(record.eventID);
      return { batchItemFailures: failed.reverse().map((record) => ({ itemIdentifier: record.dynamodb.SequenceNumber })) };
    };`;
    const directory = await prepared(['1', '2', '3', '4', '5']);
    const reporting = mapping('Reader', { FunctionResponseTypes: ['ReportBatchItemFailures'] });
    const app = await run(
      { functions: { Reader: partial }, resources: { ...items, Stream: reporting } },
      { directory },
    );
    await app.idle();
    expect(app.lines('Reader')).toEqual(['1 2 3 4 5', '2 3 4 5']);
  });

  test('fails whole where the report names a record that is not in it', async () => {
    const wrong = `export const handler = async ({ Records }) => { console.log(Records.length); return { batchItemFailures: [{ itemIdentifier: 'x' }] }; };`;
    const directory = await prepared(['1', '2']);
    const Stream = mapping('Reader', { FunctionResponseTypes: ['ReportBatchItemFailures'], MaximumRetryAttempts: 1 });
    const app = await run({ functions: { Reader: wrong }, resources: { ...items, Stream } }, { directory });
    await app.idle();
    expect(app.lines('Reader').slice(0, 2)).toEqual(['2', '2']);
    expect(app.lines('Reader')[2]).toMatch(/^stream records dropped: .*RetryAttemptsExhausted/);
  });

  test('is given up when its records are too old', async () => {
    const directory = await prepared(['bad']);
    const Stream = mapping('Reader', { MaximumRecordAgeInSeconds: 2, DestinationConfig: destination });
    const app = await run(
      { functions: { Reader: READER, Failed: PRINT }, resources: { ...items, Stream } },
      { directory },
    );
    await app.idle();
    expect(JSON.parse(app.lines('Failed')[0]!).requestContext.condition).toBe('RecordAgeExceeded');
  });
});
