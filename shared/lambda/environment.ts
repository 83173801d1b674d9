import { DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { join } from 'node:path';
import { ConnectError } from '../connect/errors.ts';
import { directoryObjects } from '../log/directory-objects.ts';
import type { ObjectStore } from '../log/objects.ts';
import { dynamoTable } from '../state/dynamodb/table.ts';
import type { Table } from '../state/table.ts';

/** What every function of a platform gets by its environment; made once per warm instance. */
export interface Environment {
  readonly table: Table;
  readonly objects: ObjectStore;
  /** Tells two platforms apart that write to one destination. */
  readonly deployment: string;
}

const required = (name: string): string => {
  const value = process.env[name];
  if (value === undefined || value === '') throw new ConnectError('CONFIG_INVALID', `the environment variable ${name} is not set: the Platform construct sets it`);
  return value;
};

/** `s3://bucket`, kept in a directory on the local host (which says where by SLUICE_S3_DIRECTORY). */
const objectStore = (url: string): ObjectStore => {
  const bucket = /^s3:\/\/([^/]+)\/?$/.exec(url)?.[1];
  const directory = process.env.SLUICE_S3_DIRECTORY;
  if (bucket === undefined) throw new ConnectError('CONFIG_INVALID', `SLUICE_OBJECTS is ${url}: expected s3://<bucket>`);
  if (directory === undefined)
    throw new ConnectError('CONFIG_INVALID', 'objects in S3 are not supported yet: run on the local host, which sets SLUICE_S3_DIRECTORY');
  return directoryObjects(join(directory, bucket));
};

let environment: Environment | undefined;

export const readEnvironment = (): Environment => {
  const tableName = required('SLUICE_TABLE');
  environment ??= {
    table: dynamoTable({ client: new DynamoDBClient({ maxAttempts: 5 }), tableName }),
    objects: objectStore(required('SLUICE_OBJECTS')),
    deployment: tableName,
  };
  return environment;
};
