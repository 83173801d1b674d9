import { createHash } from 'node:crypto';
import { type Resource, resourceName } from './template.ts';

/** How CloudFormation names a resource of this type and what Ref and Fn::GetAtt answer for it. */
interface ResourceType {
  nameProperty?: string;
  maxNameLength?: number;
  lowerCase?: true;
  /** The resource part of the ARN, after `arn:aws:<service>:<region>:<account>:`. */
  arn?: (name: string) => string;
  service?: string;
  /** What Ref gives; @default the name. */
  ref?: 'arn';
  attributes?: (name: string, arn: string, resource: Resource) => Record<string, string>;
}

/** Types that the host runs. */
const RUN: Record<string, ResourceType> = {
  'AWS::Lambda::Function': {
    nameProperty: 'FunctionName',
    maxNameLength: 64,
    service: 'lambda',
    arn: (name) => `function:${name}`,
  },
  'AWS::Lambda::Version': {},
  'AWS::Lambda::Alias': {},
  'AWS::Lambda::EventSourceMapping': {
    service: 'lambda',
    arn: (name) => `event-source-mapping:${name}`,
    attributes: (name, arn) => ({ Id: name, EventSourceMappingArn: arn }),
  },
  'AWS::Lambda::EventInvokeConfig': {},
  'AWS::DynamoDB::Table': {
    nameProperty: 'TableName',
    maxNameLength: 255,
    service: 'dynamodb',
    arn: (name) => `table/${name}`,
  },
  'AWS::DynamoDB::GlobalTable': {
    nameProperty: 'TableName',
    maxNameLength: 255,
    service: 'dynamodb',
    arn: (name) => `table/${name}`,
  },
  'AWS::S3::Bucket': {
    nameProperty: 'BucketName',
    maxNameLength: 63,
    lowerCase: true,
    attributes: (name, _arn, { stack }) => ({
      Arn: `arn:aws:s3:::${name}`,
      DomainName: `${name}.s3.amazonaws.com`,
      RegionalDomainName: `${name}.s3.${stack.region}.amazonaws.com`,
    }),
  },
  'AWS::SQS::Queue': {
    nameProperty: 'QueueName',
    maxNameLength: 80,
    service: 'sqs',
    arn: (name) => name,
    attributes: (name) => ({ QueueName: name }),
  },
  'AWS::Scheduler::Schedule': {
    nameProperty: 'Name',
    maxNameLength: 64,
    service: 'scheduler',
    arn: (name) => `schedule/default/${name}`,
  },
  'AWS::Events::Rule': { nameProperty: 'Name', maxNameLength: 64, service: 'events', arn: (name) => `rule/${name}` },
  'AWS::CloudFormation::CustomResource': {},
  // On AWS a function of the CDK makes it; the host tells of objects itself.
  'Custom::S3BucketNotifications': {},
};

/** Types without a meaning on one machine: permissions, log retention, alarms, networks, and what only a deployment needs. */
const IGNORED: Record<string, ResourceType> = {
  'AWS::CDK::Metadata': {},
  'AWS::CloudFormation::WaitConditionHandle': {},
  'AWS::CloudWatch::Alarm': { nameProperty: 'AlarmName', service: 'cloudwatch', arn: (name) => `alarm:${name}` },
  'AWS::CloudWatch::CompositeAlarm': {
    nameProperty: 'AlarmName',
    service: 'cloudwatch',
    arn: (name) => `alarm:${name}`,
  },
  'AWS::CloudWatch::Dashboard': { nameProperty: 'DashboardName' },
  'AWS::EC2::EIP': {},
  'AWS::EC2::InternetGateway': {},
  'AWS::EC2::NatGateway': {},
  'AWS::EC2::Route': {},
  'AWS::EC2::RouteTable': {},
  'AWS::EC2::SecurityGroup': { attributes: (name) => ({ GroupId: name, VpcId: `${name}-vpc` }) },
  'AWS::EC2::SecurityGroupEgress': {},
  'AWS::EC2::SecurityGroupIngress': {},
  'AWS::EC2::Subnet': { attributes: (name) => ({ SubnetId: name, AvailabilityZone: 'local' }) },
  'AWS::EC2::SubnetRouteTableAssociation': {},
  'AWS::EC2::VPC': {
    attributes: (name) => ({ VpcId: name, CidrBlock: '10.0.0.0/16', DefaultSecurityGroup: `${name}-default` }),
  },
  'AWS::EC2::VPCEndpoint': {},
  'AWS::EC2::VPCGatewayAttachment': {},
  'AWS::IAM::ManagedPolicy': {
    nameProperty: 'ManagedPolicyName',
    service: 'iam',
    arn: (name) => `policy/${name}`,
    ref: 'arn',
  },
  'AWS::IAM::Policy': { nameProperty: 'PolicyName' },
  'AWS::IAM::Role': {
    nameProperty: 'RoleName',
    service: 'iam',
    arn: (name) => `role/${name}`,
    attributes: (name) => ({ RoleId: name }),
  },
  'AWS::IAM::RolePolicy': {},
  'AWS::Lambda::LayerVersion': { service: 'lambda', arn: (name) => `layer:${name}:1`, ref: 'arn' },
  'AWS::Lambda::Permission': {},
  'AWS::Logs::LogGroup': { nameProperty: 'LogGroupName', service: 'logs', arn: (name) => `log-group:${name}:*` },
  'AWS::Logs::MetricFilter': {},
  'AWS::Logs::QueryDefinition': {},
  'AWS::Logs::SubscriptionFilter': {},
  'AWS::S3::BucketPolicy': {},
  'AWS::SNS::Subscription': {},
  // Alarms publish to topics; a function that publishes itself gets an error from the SDK.
  'AWS::SNS::Topic': {
    nameProperty: 'TopicName',
    service: 'sns',
    arn: (name) => name,
    ref: 'arn',
    attributes: (name) => ({ TopicName: name }),
  },
  'AWS::SNS::TopicPolicy': {},
  // Where a pipeline of another app finds a platform.
  'AWS::SSM::Parameter': { nameProperty: 'Name' },
  'AWS::SQS::QueuePolicy': {},
  'AWS::Scheduler::ScheduleGroup': {
    nameProperty: 'Name',
    service: 'scheduler',
    arn: (name) => `schedule-group/${name}`,
  },
  // The CDK's own housekeeping: each calls an AWS API that has no local counterpart.
  'Custom::AWSCDKOpenIdConnectProvider': {},
  'Custom::CDKBucketDeployment': {},
  'Custom::DynamoDBReplica': {},
  'Custom::LogRetention': {},
  'Custom::S3AutoDeleteObjects': {},
  'Custom::VpcRestrictDefaultSG': {},
};

export function isIgnored(resource: Resource): boolean {
  return Object.hasOwn(IGNORED, resource.type);
}

export function isCustomResource(resource: Resource): boolean {
  return (
    resource.type === 'AWS::CloudFormation::CustomResource' ||
    (resource.type.startsWith('Custom::') && !isIgnored(resource) && !Object.hasOwn(RUN, resource.type))
  );
}

/** @throws naming every resource that the host does not run, so that one look shows all there is to change */
export function requireKnownTypes(resources: Resource[]): void {
  const unknown = resources.filter(
    (resource) => !Object.hasOwn(RUN, resource.type) && !isIgnored(resource) && !isCustomResource(resource),
  );
  if (unknown.length === 0) return;
  throw new Error(
    `the local host does not run ${unknown.map(resourceName).join(', ')}; leave such resources out of the app when it runs locally`,
  );
}

/** What CloudFormation would know about a resource from its name alone. */
export interface Identity {
  name: string;
  ref: string;
  attributes: Record<string, string>;
}

export function identify(resource: Resource, explicitName: string | undefined): Identity {
  const type = typeOf(resource);
  const { stack } = resource;
  const name = explicitName ?? derivedName(resource, type);
  const region = type.service === 'iam' ? '' : stack.region;
  const arn = type.arn ? `arn:aws:${type.service}:${region}:${stack.account}:${type.arn(name)}` : '';
  return {
    name,
    ref: type.ref === 'arn' ? arn : name,
    attributes: { ...(arn ? { Arn: arn } : {}), ...type.attributes?.(name, arn, resource) },
  };
}

export function nameProperty(resource: Resource): string | undefined {
  return typeOf(resource).nameProperty;
}

function typeOf(resource: Resource): ResourceType {
  return RUN[resource.type] ?? IGNORED[resource.type] ?? {};
}

/** Stable over restarts: state is found again under the same name. */
function derivedName(resource: Resource, type: ResourceType): string {
  const full = `${resource.stack.name}-${resource.logicalId}`;
  const name = type.lowerCase ? full.toLowerCase() : full;
  const maxLength = type.maxNameLength ?? 255;
  if (name.length <= maxLength) return name;
  const hash = createHash('sha256').update(full).digest('hex').slice(0, 8);
  return `${name.slice(0, maxLength - 9)}-${hash}`;
}
