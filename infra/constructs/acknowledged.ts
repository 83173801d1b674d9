import type { PolicyStatement, Role } from 'aws-cdk-lib/aws-iam';
import type { Bucket } from 'aws-cdk-lib/aws-s3';
import { Stack, Validations } from 'aws-cdk-lib/core';
import type { Construct } from 'constructs';

/** What a wildcard in a resource stands for, by its form, and why nothing narrower would do. */
const reasons: readonly (readonly [RegExp, string])[] = [
  [/^\*$/, 'dynamodb:ListStreams, and what Lambda needs to join a function to a VPC, take no resource'],
  [/\/index\/\*$/, 'the index of this one table'],
  [
    /\?\?\?\?-\?\?-\?\?\/\*$/,
    'the objects of this connector, or of those whose topics it reads: the rest of the key is made at run time',
  ],
  [/:rds-db:/, 'the host name does not say the id of the database; for this one user'],
  [/:s3:::/, 'the objects under the path that the connector reads or writes'],
];

/** Tells cdk-nag's AwsSolutions why a role has wildcards; one whose reason nobody knows is left to be found. */
export const explainWildcards = (role: Role, statements: readonly PolicyStatement[]): void => {
  const explain = () => {
    const resources = statements.flatMap((one) => one.resources).map((one) => textOf(Stack.of(role).resolve(one)));
    for (const resource of new Set(resources.filter((one) => one.includes('*')))) {
      const [, reason] = reasons.find(([form]) => form.test(resource)) ?? [];
      if (reason !== undefined)
        Validations.of(role).acknowledge({ id: `AwsSolutions-IAM5[Resource::${resource}]`, reason });
    }
    return [];
  };
  // It knows a finding by its text, which is final only when all is added and references between stacks are resolved: just now.
  role.node.addValidation({ validate: explain });
};

/** As cdk-nag writes what CloudFormation fills in. */
const textOf = (value: unknown): string => {
  if (typeof value !== 'object' || value === null) return String(value);
  const [name, operand] = Object.entries(value)[0]!;
  if (name === 'Fn::Join') return (operand as [string, unknown[]])[1].map(textOf).join((operand as [string])[0]);
  if (name === 'Fn::ImportValue') return textOf(operand);
  if (name === 'Ref' || name === 'Fn::GetAtt') return `<${[operand].flat().join('.')}>`;
  return JSON.stringify(value);
};

export const explainNoAccessLog = (bucket: Bucket): void =>
  Validations.of(bucket).acknowledge({
    id: 'AwsSolutions-S1',
    reason:
      'bodies of segments, which only connectors read and write; data events of CloudTrail say who did, where one must know',
  });

/** The function with which the CDK tells a bucket whom to notify. */
export const explainNotifications = (scope: Construct): void => {
  for (const one of Stack.of(scope).node.children)
    if (one.node.id.startsWith('BucketNotificationsHandler'))
      Validations.of(one).acknowledge({
        id: 'AwsSolutions-IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole]',
        reason: 'made by the CDK for all buckets of the stack, to write its own log',
      });
};
