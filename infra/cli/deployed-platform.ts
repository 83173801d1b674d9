import { DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { LambdaClient } from '@aws-sdk/client-lambda';
import { ConnectError } from '../../shared/connect/errors.ts';
import { AwsError, callAws } from '../../shared/lambda/aws-json.ts';
import { lambdaInvoker } from '../../shared/lambda/invoke.ts';
import { s3Client } from '../../shared/s3/client.ts';
import { s3Objects } from '../../shared/s3/objects.ts';
import { dynamoTable } from '../../shared/state/dynamodb/table.ts';
import { type PlatformParameters, parameterName } from '../constructs/parameter-name.ts';
import type { OpenPlatform } from './platform.ts';

/** A platform on AWS, found by its name in the account and region of whoever asks: what the SDK finds as their credentials. */
export const openDeployed = async (name: string): Promise<OpenPlatform> => {
  await using opened = new AsyncDisposableStack();
  const client = opened.adopt(new DynamoDBClient({ maxAttempts: 8 }), (it) => it.destroy());
  const region = await regionOf(client);
  const [tableName, bucket] = await Promise.all([
    readParameter(region, name, 'table'),
    readParameter(region, name, 'bucket'),
  ]);
  // Who asks waits for the end of a run, and decides itself what to try again.
  const options = { region, maxAttempts: 1, requestHandler: { requestTimeout: 0 } };
  const lambda = opened.adopt(new LambdaClient(options), (it) => it.destroy());
  const all = opened.move();
  return {
    table: dynamoTable({ client, tableName }),
    objects: s3Objects(s3Client({ region }), bucket),
    functions: lambdaInvoker(lambda),
    running: true,
    close: () => all.disposeAsync(),
  };
};

const regionOf = async (client: DynamoDBClient): Promise<string> => {
  try {
    return await client.config.region();
  } catch (cause) {
    throw new ConnectError(
      'CONFIG_INVALID',
      `--platform needs a region: set AWS_REGION (${(cause as Error).message})`,
      {
        cause,
      },
    );
  }
};

const readParameter = async (region: string, platform: string, key: keyof PlatformParameters): Promise<string> => {
  const Name = parameterName(platform, key);
  try {
    const { Parameter } = await callAws({
      ...{ service: 'ssm', target: 'AmazonSSM.GetParameter', region, body: { Name } },
      endpointVariable: 'AWS_ENDPOINT_URL_SSM',
    });
    return (Parameter as { readonly Value: string }).Value;
  } catch (cause) {
    if (!(cause instanceof AwsError)) throw cause;
    throw cause.code === 'ParameterNotFound'
      ? new ConnectError('NOT_FOUND', `there is no platform ${platform} in this account in ${region} (${Name})`, {
          cause,
        })
      : new ConnectError('ACCESS_DENIED', `${Name} can't be read: ${cause.code}: ${cause.message}`, { cause });
  }
};
