import * as z from 'zod';
import { type PolicyStatement, parsePolicy } from './iam-policy.ts';
import type { Intrinsics } from './intrinsics.ts';
import { parseProperties, unsupported } from './properties.ts';
import { type Resource, resourceName } from './template.ts';

/** The execution role of a function with everything that its policies say. Plain data: it is recorded with the function. */
export interface Role {
  arn: string;
  statements: PolicyStatement[];
}

const roleProperties = z.object({
  Policies: z.array(z.object({ PolicyDocument: z.unknown() })).default([]),
  ManagedPolicyArns: z.array(z.string()).default([]),
  PermissionsBoundary: unsupported('permissions boundaries are not evaluated locally; leave it out'),
});

/** Policies of AWS that allow nothing of what the host offers to functions. */
const HARMLESS = ['AWSLambdaBasicExecutionRole', 'AWSLambdaVPCAccessExecutionRole', 'AWSXRayDaemonWriteAccess'];

/** Where a policy beside the role says whose it is. */
const ATTACHED_BY: Record<string, string> = {
  'AWS::IAM::Policy': 'Roles',
  'AWS::IAM::ManagedPolicy': 'Roles',
  'AWS::IAM::RolePolicy': 'RoleName',
};

/**
 * The role with the ARN, and the policies that the app attaches to it. Resource policies of buckets and tables are not evaluated.
 *
 * @throws where the role, or a policy of it, is not in the app or not understood: what it allows is not known then
 */
export function describeRole(user: Resource, arn: string, resources: Resource[], intrinsics: Intrinsics): Role {
  const ofType = (type: string): Resource[] => resources.filter((resource) => resource.type === type);
  const role = ofType('AWS::IAM::Role').find((resource) => intrinsics.identityOf(resource).attributes.Arn === arn);
  if (role === undefined) {
    throw new Error(
      `${resourceName(user)}: role ${arn} is not in this app, so the local host can't tell what it allows; let the app make the role`,
    );
  }
  const name = intrinsics.identityOf(role).name;
  const { Policies, ManagedPolicyArns } = parseProperties(roleProperties, role, intrinsics);
  const statements = Policies.flatMap(({ PolicyDocument }) => statementsOf(role, PolicyDocument));
  for (const managed of ManagedPolicyArns) {
    if (HARMLESS.includes(managed.split('/').at(-1) ?? '')) continue;
    const policy = ofType('AWS::IAM::ManagedPolicy').find((each) => intrinsics.identityOf(each).ref === managed);
    if (policy === undefined) {
      throw new Error(
        `${resourceName(role)}: the local host doesn't know what ${managed} allows; write its statements into the app`,
      );
    }
    statements.push(...statementsOf(policy, intrinsics.property(policy, 'PolicyDocument')));
  }
  for (const policy of resources) {
    const property = ATTACHED_BY[policy.type];
    if (property === undefined || ![intrinsics.property(policy, property)].flat().includes(name)) continue;
    statements.push(...statementsOf(policy, intrinsics.property(policy, 'PolicyDocument')));
  }
  return { arn, statements };
}

function statementsOf(resource: Resource, document: unknown): PolicyStatement[] {
  try {
    return parsePolicy(document);
  } catch (cause) {
    throw new Error(`${resourceName(resource)}: ${(cause as Error).message}`, { cause });
  }
}
