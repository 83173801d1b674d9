import { CfnVPCEndpoint, type ISecurityGroup, type IVpc, type SubnetSelection, Vpc } from 'aws-cdk-lib/aws-ec2';
import { PolicyStatement } from 'aws-cdk-lib/aws-iam';
import { Annotations, Aspects, Stack } from 'aws-cdk-lib/core';
import type { Construct, IConstruct } from 'constructs';
import type { Problem } from '../problems.ts';
import type { SecretService } from './secret-access.ts';

export interface NetworkProps {
  /**
   * The network of its function, for systems that are reached only there. It then needs ways to DynamoDB and S3, which gateway
   * endpoints are, free of charge.
   *
   * @default - none: the function reaches the internet, and nothing private
   */
  readonly vpc?: IVpc;

  /**
   * Where in `vpc` its function is.
   *
   * @default - the private subnets
   */
  readonly vpcSubnets?: SubnetSelection;

  /**
   * What its function belongs to in `vpc`.
   *
   * @default - a new one, which may reach everything and be reached by nothing
   */
  readonly securityGroups?: ISecurityGroup[];
}

/** Of a connector's options those that a function knows. */
export const networkOf = ({ vpc, vpcSubnets, securityGroups }: NetworkProps): NetworkProps => ({
  ...(vpc === undefined ? {} : { vpc }),
  ...(vpcSubnets === undefined ? {} : { vpcSubnets }),
  ...(securityGroups === undefined ? {} : { securityGroups }),
});

export const networkProblems = ({ vpc, ...rest }: NetworkProps): readonly Problem[] =>
  (['vpcSubnets', 'securityGroups'] as const)
    .filter((key) => vpc === undefined && rest[key] !== undefined)
    .map((key) => ({ path: [key], message: 'belongs to a vpc; give vpc, or leave it out' }));

/** What Lambda needs to join a function to a VPC: AWSLambdaVPCAccessExecutionRole without the logs. These actions know no resources. */
export const joinNetwork = (): PolicyStatement =>
  new PolicyStatement({
    actions: [
      'ec2:CreateNetworkInterface',
      'ec2:DescribeNetworkInterfaces',
      'ec2:DescribeSubnets',
      'ec2:DeleteNetworkInterface',
      'ec2:AssignPrivateIpAddresses',
      'ec2:UnassignPrivateIpAddresses',
    ],
    resources: ['*'],
  });

/**
 * Warns of services that a function in a VPC of this app can't reach: without a NAT gateway ($32 a month) only those are reached that
 * the VPC has an endpoint for.
 */
export const warnOfMissingEndpoints = (
  scope: Construct,
  { vpc, vpcSubnets }: NetworkProps,
  secrets: readonly SecretService[],
): void => {
  // What another app has made nobody here knows.
  if (!(vpc instanceof Vpc)) return;
  const { subnets } = vpc.selectSubnets(vpcSubnets);
  const routed = new Set(vpc.privateSubnets);
  if (subnets.every((subnet) => routed.has(subnet))) return;
  const visit = () => {
    const found = endpointsIn(vpc, vpc.node.root).map((one) => JSON.stringify(Stack.of(one).resolve(one.serviceName)));
    for (const service of ['dynamodb', 's3', ...new Set(secrets)] as const)
      if (!found.some((name) => name.includes(`.${service}"`)))
        Annotations.of(scope).addWarningV2(
          `sluice:no-endpoint-${service}`,
          `its function can't reach ${serviceNames[service]}: the subnets in ${vpc.node.path} have no NAT gateway and the VPC has no endpoint for it; ${fixes[service]}`,
        );
  };
  // When all is added: endpoints may come after the connector.
  Aspects.of(scope).add({ visit: (node) => node === scope && visit() }, { priority: 1000 });
};

const serviceNames = { dynamodb: 'DynamoDB', s3: 'S3', secretsmanager: 'Secrets Manager', ssm: 'Systems Manager' };

const gateway = (service: string) =>
  `add vpc.addGatewayEndpoint('${service}', { service: GatewayVpcEndpointAwsService.${service} }), which is free`;
const privateLink = (service: string) =>
  `add vpc.addInterfaceEndpoint('${service}', { service: InterfaceVpcEndpointAwsService.${service} }), about $7 a month in each zone, or log in without a secret (auth: 'iam')`;

const fixes = {
  dynamodb: gateway('DYNAMODB'),
  s3: gateway('S3'),
  secretsmanager: privateLink('SECRETS_MANAGER'),
  ssm: privateLink('SSM'),
};

/** The endpoints that a part of the app gives a VPC. */
export const endpointsIn = (vpc: IVpc, scope: IConstruct): readonly CfnVPCEndpoint[] => {
  const id = (one: IConstruct, value: string | undefined) => JSON.stringify(Stack.of(one).resolve(value));
  return scope.node
    .findAll()
    .filter((one) => one instanceof CfnVPCEndpoint)
    .filter((one) => id(vpc, one.vpcId) === id(vpc, vpc.vpcId));
};
