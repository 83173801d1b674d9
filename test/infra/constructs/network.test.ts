import { Annotations, Match, Template } from 'aws-cdk-lib/assertions';
import {
  GatewayVpcEndpointAwsService,
  InterfaceVpcEndpointAwsService,
  Port,
  SecurityGroup,
  SubnetType,
  Vpc,
} from 'aws-cdk-lib/aws-ec2';
import {
  AuroraPostgresEngineVersion,
  ClusterInstance,
  DatabaseCluster,
  DatabaseClusterEngine,
} from 'aws-cdk-lib/aws-rds';
import { App, Stack } from 'aws-cdk-lib/core';
import { describe, expect, it } from 'vitest';
import { postgresSink } from '../../../infra/connectors.ts';
import { Pipeline } from '../../../infra/constructs/pipeline.ts';
import { Platform } from '../../../infra/constructs/platform.ts';
import { appProps } from '../../../infra/synth.ts';
import { deployed, emptyBundle, messageOf, platformStack } from './stack.ts';

const setUp = () => {
  const made = platformStack({}, deployed);
  const pipeline = new Pipeline(made.stack, 'Shop', {
    platform: made.platform,
    name: 'shop',
    externalTopics: ['orders'],
  });
  return { ...made, pipeline };
};

const sinkTo = (config: object = { auth: 'iam' }) => ({
  from: ['orders'],
  connector: postgresSink({ host: 'db', database: 'shop', user: 'sluice', ...config } as never),
});

const isolated = { natGateways: 0, subnetConfiguration: [{ name: 'Data', subnetType: SubnetType.PRIVATE_ISOLATED }] };
const warningsOf = (stack: Stack) =>
  Annotations.fromStack(stack)
    .findWarning('/Stack/Shop/store', Match.anyValue())
    .map(({ entry }) => String(entry.data));

describe('a connector in a VPC', () => {
  it('has a function there with a security group, and its role the rights to join it', () => {
    const { stack, pipeline, template: make } = setUp();
    const vpc = new Vpc(stack, 'Vpc', isolated);
    pipeline.addSink('store', { ...sinkTo(), vpc, vpcSubnets: { subnetType: SubnetType.PRIVATE_ISOLATED } });
    const template = make();
    template.hasResourceProperties('AWS::Lambda::Function', {
      VpcConfig: {
        SecurityGroupIds: [{ 'Fn::GetAtt': [Match.stringLikeRegexp('^ShopstoreFunctionSecurityGroup'), 'GroupId'] }],
        SubnetIds: [1, 2].map((n) => ({ Ref: Match.stringLikeRegexp(`^VpcDataSubnet${n}`) })),
      },
    });
    template.hasResourceProperties('AWS::IAM::Role', {
      ManagedPolicyArns: Match.absent(),
      Policies: [
        {
          PolicyDocument: {
            Statement: Match.arrayWith([
              {
                Effect: 'Allow',
                Action: [
                  'ec2:CreateNetworkInterface',
                  'ec2:DescribeNetworkInterfaces',
                  'ec2:DescribeSubnets',
                  'ec2:DeleteNetworkInterface',
                  'ec2:AssignPrivateIpAddresses',
                  'ec2:UnassignPrivateIpAddresses',
                ],
                Resource: '*',
              },
            ]),
          },
        },
      ],
    });
    // Nobody else needs to be there: the deploy function asks the connector's own.
    const functions = Object.values(template.findResources('AWS::Lambda::Function'));
    expect(functions.filter(({ Properties }) => Properties.VpcConfig !== undefined)).toHaveLength(1);
  });

  it('can be allowed to connect to what is there, before its check is run', () => {
    const { stack, pipeline, template: make } = setUp();
    const vpc = new Vpc(stack, 'Vpc');
    const engine = DatabaseClusterEngine.auroraPostgres({ version: AuroraPostgresEngineVersion.VER_17_5 });
    const db = new DatabaseCluster(stack, 'Db', { engine, writer: ClusterInstance.serverlessV2('writer'), vpc });
    const endpoint = vpc.addGatewayEndpoint('S3', { service: GatewayVpcEndpointAwsService.S3 });
    const sink = pipeline.addSink('store', { ...sinkTo({ auth: 'iam', host: db.clusterEndpoint.hostname }), vpc });
    sink.connections.allowTo(db, Port.tcp(5432));
    const template = make();
    const rules = template.findResources('AWS::EC2::SecurityGroupIngress', {
      Properties: {
        FromPort: 5432,
        SourceSecurityGroupId: { 'Fn::GetAtt': [Match.stringLikeRegexp('^ShopstoreFunctionSecurityGroup'), 'GroupId'] },
      },
    });
    expect(Object.keys(rules)).toHaveLength(1);
    const [row] = Object.values(template.findResources('Custom::SluiceConnector'));
    expect(row!.DependsOn).toEqual(
      expect.arrayContaining([
        ...Object.keys(rules),
        ...Object.keys(template.findResources('AWS::RDS::DBInstance')),
        stack.getLogicalId(endpoint.node.defaultChild as never),
      ]),
    );
    // That its own group may reach everything needs no warning.
    expect(Annotations.fromStack(stack).findWarning('*', Match.stringLikeRegexp('Egress'))).toEqual([]);
  });

  it('takes the security groups that it is given', () => {
    const { stack, pipeline, template } = setUp();
    const vpc = new Vpc(stack, 'Vpc');
    const group = new SecurityGroup(stack, 'Group', { vpc, allowAllOutbound: false });
    const sink = pipeline.addSink('store', { ...sinkTo(), vpc, securityGroups: [group] });
    expect(sink.connections.securityGroups).toEqual([group]);
    template().resourceCountIs('AWS::EC2::SecurityGroup', 1);
  });

  it('says what is missing where it has none', () => {
    const { stack, pipeline } = setUp();
    const vpc = new Vpc(stack, 'Vpc');
    const group = new SecurityGroup(stack, 'Group', { vpc });
    const sink = pipeline.addSink('store', sinkTo());
    expect(messageOf(() => sink.connections)).toBe(
      'Stack/Shop/store is in no VPC, and so it has no security group to allow connections of: give it vpc',
    );
    const both = { securityGroups: [group], vpcSubnets: { subnetType: SubnetType.PRIVATE_ISOLATED } };
    expect(messageOf(() => pipeline.addSink('other', { ...sinkTo(), ...both }))).toBe(
      'Stack/Shop/other: vpcSubnets: belongs to a vpc; give vpc, or leave it out; securityGroups: belongs to a vpc; give vpc, or leave it out',
    );
  });
});

describe('a VPC without a NAT gateway', () => {
  it('is warned of where it has no way to DynamoDB and S3, with the fix', () => {
    const { stack, pipeline } = setUp();
    const vpc = new Vpc(stack, 'Vpc', isolated);
    pipeline.addSink('store', { ...sinkTo(), vpc, vpcSubnets: { subnetType: SubnetType.PRIVATE_ISOLATED } });
    expect(warningsOf(stack)).toEqual([
      expect.stringContaining(
        "its function can't reach DynamoDB: the subnets in Stack/Vpc have no NAT gateway and the VPC has no endpoint for it; add vpc.addGatewayEndpoint('DYNAMODB', { service: GatewayVpcEndpointAwsService.DYNAMODB }), which is free",
      ),
      expect.stringContaining("its function can't reach S3"),
    ]);
  });

  it('is good with gateway endpoints, which may be added later', () => {
    const { stack, pipeline } = setUp();
    const vpc = new Vpc(stack, 'Vpc', isolated);
    pipeline.addSink('store', { ...sinkTo(), vpc, vpcSubnets: { subnetType: SubnetType.PRIVATE_ISOLATED } });
    vpc.addGatewayEndpoint('DynamoDb', { service: GatewayVpcEndpointAwsService.DYNAMODB });
    vpc.addGatewayEndpoint('S3', { service: GatewayVpcEndpointAwsService.S3 });
    // Of another VPC of the app: not of this one.
    new Vpc(stack, 'Other').addInterfaceEndpoint('Ssm', { service: InterfaceVpcEndpointAwsService.SSM });
    expect(warningsOf(stack)).toEqual([]);
  });

  it('is warned of where secrets are read, and login by role is offered', () => {
    const { stack, pipeline } = setUp();
    const vpc = new Vpc(stack, 'Vpc', isolated);
    vpc.addGatewayEndpoint('DynamoDb', { service: GatewayVpcEndpointAwsService.DYNAMODB });
    vpc.addGatewayEndpoint('S3', { service: GatewayVpcEndpointAwsService.S3 });
    vpc.addInterfaceEndpoint('Ssm', { service: InterfaceVpcEndpointAwsService.SSM });
    const config = { password: '${secretsmanager:shop:password}', ca: '${ssm:/ca}' };
    pipeline.addSink('store', { ...sinkTo(config), vpc, vpcSubnets: { subnetType: SubnetType.PRIVATE_ISOLATED } });
    expect(warningsOf(stack)).toEqual([
      expect.stringMatching(
        /can't reach Secrets Manager: .*about \$7 a month in each zone, or log in without a secret \(auth: 'iam'\)/,
      ),
    ]);
  });

  it('is not what one with a NAT gateway is, nor one of another app', () => {
    const { stack, pipeline } = setUp();
    pipeline.addSink('store', { ...sinkTo(), vpc: new Vpc(stack, 'Vpc') });
    const attributes = { vpcId: 'vpc-1', availabilityZones: ['a'], isolatedSubnetIds: ['subnet-1'] };
    const vpc = Vpc.fromVpcAttributes(stack, 'Found', attributes);
    pipeline.addSink('other', { ...sinkTo(), vpc, vpcSubnets: { subnetType: SubnetType.PRIVATE_ISOLATED } });
    expect(warningsOf(stack)).toEqual([]);
    expect(Annotations.fromStack(stack).findWarning('/Stack/Shop/other', Match.anyValue())).toEqual([]);
  });

  it('may be in another stack of the app', () => {
    const app = new App(appProps);
    const network = new Stack(app, 'Network');
    const vpc = new Vpc(network, 'Vpc', isolated);
    vpc.addGatewayEndpoint('DynamoDb', { service: GatewayVpcEndpointAwsService.DYNAMODB });
    const stack = new Stack(app, 'Stack');
    const platform = new Platform(stack, 'Platform', { bundle: emptyBundle });
    const pipeline = new Pipeline(stack, 'Shop', { platform, name: 'shop', externalTopics: ['orders'] });
    pipeline.addSink('store', { ...sinkTo(), vpc, vpcSubnets: { subnetType: SubnetType.PRIVATE_ISOLATED } });
    Template.fromStack(stack);
    expect(warningsOf(stack)).toEqual([expect.stringContaining("its function can't reach S3")]);
  });
});
