import { DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { ConnectError } from '../connect/errors.ts';
import type { ObjectStore } from '../log/objects.ts';
import { s3Client } from '../s3/client.ts';
import { s3Objects } from '../s3/objects.ts';
import { dynamoTable, type Units } from '../state/dynamodb/table.ts';
import type { Table } from '../state/table.ts';

/** What every function of a platform gets by its environment; made once per warm instance. */
export interface Environment {
  readonly table: Table;
  /** The same, by reads at half the price that may be a second or two behind. */
  readonly eventual: Table;
  readonly objects: ObjectStore;
  /** Tells two platforms apart that write to one destination. */
  readonly deployment: string;
}

export const required = (name: string): string => {
  const value = process.env[name];
  if (value === undefined || value === '')
    throw new ConnectError(
      'CONFIG_INVALID',
      `the environment variable ${name} is not set: the Platform construct sets it`,
    );
  return value;
};

/** `s3://bucket` */
const objectStore = (url: string): ObjectStore => {
  const bucket = /^s3:\/\/([^/]+)\/?$/.exec(url)?.[1];
  if (bucket === undefined)
    throw new ConnectError('CONFIG_INVALID', `SLUICE_OBJECTS is ${url}: expected s3://<bucket>`);
  return s3Objects(s3Client(), bucket);
};

let environment: Environment | undefined;

const used = { read: 0, write: 0 };

/** Units of the table that this instance consumed since it was asked last: for the local host's cost figures. */
export const takeUsed = (): typeof used => {
  const taken = { ...used };
  Object.assign(used, { read: 0, write: 0 });
  return taken;
};

const count = ({ read, write }: Units): void => {
  used.read += read;
  used.write += write;
};

export const readEnvironment = (): Environment => {
  const tableName = required('SLUICE_TABLE');
  if (environment !== undefined) return environment;
  const options = { client: new DynamoDBClient({ maxAttempts: 5 }), tableName, onUnits: count };
  environment = {
    table: dynamoTable(options),
    eventual: dynamoTable({ ...options, eventual: true }),
    objects: objectStore(required('SLUICE_OBJECTS')),
    deployment: tableName,
  };
  return environment;
};
