import { CfnSecurityGroupEgress, CfnSecurityGroupIngress, type ISecurityGroup } from 'aws-cdk-lib/aws-ec2';
import { Aspects, CfnResource, Reference, Stack, Tokenization } from 'aws-cdk-lib/core';
import type { Construct, IConstruct } from 'constructs';
import { endpointsIn, type NetworkProps } from './network.ts';

/**
 * Lets a connector's row wait, at deploy, for what its check needs and CloudFormation can't know: the rules of its security groups, the
 * endpoints of its VPC, and the instances of a database cluster, which has an address before anything answers there.
 */
export const waitForSystems = (
  row: Construct,
  config: unknown,
  { vpc }: NetworkProps,
  securityGroups: readonly ISecurityGroup[],
): void => {
  const visit = () => {
    const needed = [
      ...databasesOf(row, config),
      ...(vpc === undefined ? [] : endpointsIn(vpc, Stack.of(row))),
      ...rulesOf(Stack.of(row), securityGroups),
    ];
    row.node.addDependency(...needed.filter((one) => Stack.of(one) === Stack.of(row)));
  };
  // When all is added.
  Aspects.of(row).add({ visit: (node) => node === row && visit() });
};

const databasesOf = (scope: Construct, config: unknown): readonly IConstruct[] => {
  if (typeof config === 'string')
    return Tokenization.reverseString(config).tokens.flatMap((token) => {
      const target = Reference.isReference(token) ? token.target : undefined;
      const isDatabase = target instanceof CfnResource && target.cfnResourceType.startsWith('AWS::RDS::');
      // The cluster with its instances is the construct around it.
      return isDatabase ? [Stack.isStack(target.node.scope) ? target : target.node.scope!] : [];
    });
  return typeof config === 'object' && config !== null
    ? Object.values(config).flatMap((inner) => databasesOf(scope, inner))
    : [];
};

const rulesOf = (stack: Stack, securityGroups: readonly ISecurityGroup[]): readonly IConstruct[] => {
  const text = (value: unknown) => JSON.stringify(stack.resolve(value));
  const ids = new Set(securityGroups.map(({ securityGroupId }) => text(securityGroupId)));
  if (ids.size === 0) return [];
  return stack.node.findAll().filter((one) => {
    if (one instanceof CfnSecurityGroupIngress) return ids.has(text(one.sourceSecurityGroupId));
    return one instanceof CfnSecurityGroupEgress && ids.has(text(one.groupId));
  });
};
