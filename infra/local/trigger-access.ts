import { type Authorizer, type Permission, permits } from './authorizer.ts';
import type { Functions } from './functions.ts';
import { createDecide } from './iam-policy.ts';
import { describeRole } from './iam-role.ts';
import type { Intrinsics } from './intrinsics.ts';
import { isQueueArn } from './sqs.ts';
import { type Resource, resourceName } from './template.ts';
import type { Wiring } from './wiring.ts';

interface Access {
  /** Who is served by it, for messages. */
  name: string;
  functionName: string;
  needed: readonly (readonly [action: string, resource: string])[];
}

const STREAM = ['dynamodb:DescribeStream', 'dynamodb:GetRecords', 'dynamodb:GetShardIterator'];
const QUEUE = ['sqs:ReceiveMessage', 'sqs:DeleteMessage', 'sqs:GetQueueAttributes'];
const INVOKE = 'lambda:InvokeFunction';

/**
 * What AWS does in the name of a function: reading the streams and queues that invoke it, and sending what it failed at elsewhere.
 *
 * @throws where its role does not allow that: AWS would refuse the mapping or the destination
 */
export function requireTriggerAccess(wiring: Wiring, functions: Functions, authorizer: Authorizer): void {
  const all: Access[] = [
    ...wiring.mappings.map(({ name, functionName, table: { streamArn = '' } }) => ({
      name,
      functionName,
      needed: STREAM.map((action) => [action, streamArn] as const),
    })),
    ...wiring.queueMappings.map(({ functionName, queueArn }) => ({
      name: `the mapping of ${queueArn}`,
      functionName,
      needed: QUEUE.map((action) => [action, queueArn] as const),
    })),
    ...[...wiring.configs, ...wiring.mappings].flatMap(({ functionName, onFailure }) => {
      if (onFailure === undefined) return [];
      const needed = isQueueArn(onFailure)
        ? (['sqs:SendMessage', onFailure] as const)
        : ([INVOKE, functions.find(onFailure)?.arn ?? onFailure] as const);
      return [{ name: `the on-failure destination of ${functionName}`, functionName, needed: [needed] }];
    }),
  ];
  for (const { name, functionName, needed } of all) {
    const definition = functions.find(functionName);
    if (!definition) continue;
    const { accessKeyId } = authorizer.accessKeyOf(definition);
    for (const [action, resource] of needed) {
      const denial = authorizer.authorize(accessKeyId, action, resource);
      if (denial) throw new Error(`${name}: ${denial.message}`);
    }
  }
}

/** @throws where a schedule has a role by which it can't invoke its target: on AWS nothing would tell but the target's silence */
export function requireScheduleAccess(
  resources: Resource[],
  intrinsics: Intrinsics,
  permissions: readonly Permission[],
): void {
  const roles = new Set(
    resources
      .filter(({ type }) => type === 'AWS::IAM::Role')
      .map((resource) => intrinsics.identityOf(resource).attributes.Arn),
  );
  for (const schedule of resources.filter(({ type }) => type === 'AWS::Scheduler::Schedule')) {
    const { Arn, RoleArn } = intrinsics.property(schedule, 'Target') as { Arn: string; RoleArn?: string };
    // Of a role that is not in the app nothing is known here.
    if (RoleArn === undefined || !roles.has(RoleArn) || permits(permissions, Arn, RoleArn)) continue;
    const role = describeRole(schedule, RoleArn, resources, intrinsics);
    if (createDecide(role.statements)({ action: INVOKE, resource: Arn }) === 'allowed') continue;
    throw new Error(`${resourceName(schedule)}: role ${RoleArn} is not authorized to perform: ${INVOKE} on ${Arn}`);
  }
}
