import type { ITable } from 'aws-cdk-lib/aws-dynamodb';
import { PolicyStatement } from 'aws-cdk-lib/aws-iam';
import type { IBucket } from 'aws-cdk-lib/aws-s3';

export const readItems = ['dynamodb:GetItem', 'dynamodb:BatchGetItem', 'dynamodb:Query'];
export const writeItems = ['dynamodb:PutItem', 'dynamodb:UpdateItem'];
export const deleteItems = ['dynamodb:DeleteItem'];

export const allow = (actions: readonly string[], resources: readonly string[]): PolicyStatement =>
  new PolicyStatement({ actions: [...actions], resources: [...resources] });

export interface TableAccess {
  readonly connector: string;
  readonly reads: readonly string[];
  readonly writes: readonly string[];
}

/** The keys of shared/state/keys.ts as IAM patterns; a test compares them. `#` ends each name, so `shop` never matches `shop2`. */
const topicRows = (topics: readonly string[]): readonly string[] => topics.map((topic) => `topic#${topic}`);
const logRows = (topics: readonly string[]): readonly string[] => topics.map((topic) => `log#${topic}#*`);

/**
 * A connector's own rows, the logs of the topics it writes, and to read what those topics and the topics it reads are. One statement per
 * right, over all keys: a batch or a transaction is allowed only where one statement covers every key in it. No Scan and no PartiQL:
 * without keys the condition holds.
 */
export const tableAccess = (table: ITable, { connector, reads, writes }: TableAccess): readonly PolicyStatement[] => {
  const own = [`connector#${connector}`];
  const written = [...own, ...logRows(writes)];
  const topics = [...new Set([...writes, ...reads])];
  const rows = (actions: readonly string[], keys: readonly string[]): PolicyStatement => {
    const statement = allow(actions, [table.tableArn]);
    statement.addCondition('ForAllValues:StringLike', { 'dynamodb:LeadingKeys': keys });
    return statement;
  };
  return [
    rows(readItems, [...own, ...topicRows(topics), ...logRows(topics)]),
    // Only an append updates: the head of its log.
    rows(writes.length === 0 ? ['dynamodb:PutItem'] : writeItems, written),
    rows(deleteItems, own),
  ];
};

/**
 * Where a connector's segment objects are: `r<days>/<connector>/<date>/<id>`. With the form of the date in the pattern, no name of a
 * connector can be taken for another one's date.
 */
const objectsOf = (bucket: IBucket, connector: string): string => bucket.arnForObjects(`r*/${connector}/????-??-??/*`);

/** With the right to read them: whether a put whose answer was lost took effect is found out by what is there. */
export const putObjects = (bucket: IBucket, connector: string): PolicyStatement =>
  allow(['s3:PutObject', 's3:GetObject'], [objectsOf(bucket, connector)]);

export const getObjects = (bucket: IBucket, writers: readonly string[]): PolicyStatement =>
  allow(
    ['s3:GetObject'],
    writers.map((writer) => objectsOf(bucket, writer)),
  );
