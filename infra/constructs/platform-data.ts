import {
  AttributeType,
  Billing,
  type ITableV2,
  ProjectionType,
  StreamViewType,
  TableV2,
} from 'aws-cdk-lib/aws-dynamodb';
import { BlockPublicAccess, Bucket, type IBucket } from 'aws-cdk-lib/aws-s3';
import { Duration, RemovalPolicy } from 'aws-cdk-lib/core';
import type { Construct } from 'constructs';
import { objectClasses } from '../../shared/connect/retention.ts';
import { explainNoAccessLog } from './acknowledged.ts';

/** The data of a platform: state and log in a table, bodies of segments in a bucket. */
export interface PlatformData {
  /** With its stream. */
  readonly table: ITableV2;
  readonly bucket: IBucket;
}

/** What an earlier platform left behind. */
export interface RetainedData {
  readonly tableName: string;
  /** `aws dynamodb describe-table --table-name … --query Table.LatestStreamArn` says it. */
  readonly tableStreamArn: string;
  readonly bucketName: string;
}

export const createData = (scope: Construct, removalPolicy: RemovalPolicy): PlatformData => {
  const data = {
    table: new TableV2(scope, 'Table', {
      partitionKey: { name: 'pk', type: AttributeType.STRING },
      sortKey: { name: 'sk', type: AttributeType.STRING },
      billing: Billing.onDemand(),
      dynamoStream: StreamViewType.KEYS_ONLY,
      timeToLiveAttribute: 'expires',
      pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: true },
      globalSecondaryIndexes: [
        {
          indexName: 'kinds',
          partitionKey: { name: 'kind', type: AttributeType.STRING },
          sortKey: { name: 'name', type: AttributeType.STRING },
          projectionType: ProjectionType.KEYS_ONLY,
        },
      ],
      removalPolicy,
    }),
    bucket: new Bucket(scope, 'Objects', {
      blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
      enforceSSL: true,
      lifecycleRules: objectClasses.map((days) => ({
        id: `r${days}`,
        prefix: `r${days}/`,
        expiration: Duration.days(days),
      })),
      removalPolicy,
      autoDeleteObjects: removalPolicy === RemovalPolicy.DESTROY,
    }),
  };
  explainNoAccessLog(data.bucket);
  return data;
};

/** Table and bucket keep the settings that they were made with. */
export const adoptData = (scope: Construct, { tableName, tableStreamArn, bucketName }: RetainedData): PlatformData => ({
  table: TableV2.fromTableAttributes(scope, 'Table', { tableName, tableStreamArn }),
  bucket: Bucket.fromBucketName(scope, 'Objects', bucketName),
});
