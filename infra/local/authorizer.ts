import { randomBytes } from 'node:crypto';
import type { FunctionDefinition } from './function.ts';
import { type AccessRequest, createDecide, type Decision } from './iam-policy.ts';
import type { Intrinsics } from './intrinsics.ts';
import { functionNameOf } from './properties.ts';
import type { Resource } from './template.ts';

export interface AccessKey {
  accessKeyId: string;
  secretAccessKey: string;
}

/** What the host itself asks with, as the CLI does: nothing is refused. */
export const hostAccessKey: AccessKey = { accessKeyId: 'local', secretAccessKey: 'local' };

/** Why a request is refused. */
export interface Denial {
  /** `unknownKey`: an access key that no function of this run has. */
  reason: 'unknownKey' | 'denied';
  /** In the words of AWS. */
  message: string;
}

export interface Authorizer {
  /** A key of its own for a function, the same for all its instances, another one at each run of the host. */
  accessKeyOf(definition: FunctionDefinition): AccessKey;
  functionOf(accessKeyId: string): FunctionDefinition | undefined;
  /** Whether the function with the key may do this, by its role's policies; undefined where it may. */
  authorize(
    accessKeyId: string,
    action: string,
    resource: string,
    context?: AccessRequest['context'],
  ): Denial | undefined;
  /** Likewise lambda:InvokeFunction, by the caller's role or by the permissions of the function that is called. */
  authorizeInvoke(accessKeyId: string, functionArn: string): Denial | undefined;
}

/** AWS::Lambda::Permission: what a function itself lets others do. */
export interface Permission {
  functionName: string;
  action: string;
  principal: string;
}

export function describePermission(resource: Resource, intrinsics: Intrinsics): Permission {
  const text = (property: string): string => String(intrinsics.property(resource, property));
  return {
    functionName: functionNameOf(text('FunctionName')),
    action: text('Action'),
    principal: text('Principal'),
  };
}

/** What the called function itself allows the role. */
export function permits(permissions: readonly Permission[], functionArn: string, roleArn: string | undefined): boolean {
  return permissions.some(
    ({ functionName, action, principal }) =>
      functionName === functionNameOf(functionArn) &&
      (action === INVOKE || action === 'lambda:*') &&
      principal === roleArn,
  );
}

const UNKNOWN_KEY = `The security token included in the request is invalid: the local host knows the keys of its functions, and its own (${hostAccessKey.accessKeyId}).`;
const INVOKE = 'lambda:InvokeFunction';

interface Principal {
  definition: FunctionDefinition;
  key: AccessKey;
  decide: (request: AccessRequest) => Decision;
}

/** Keys are told apart, signatures are not checked: this shows a grant that is missing, it keeps nobody out. */
export function createAuthorizer(permissions: readonly Permission[]): Authorizer {
  const byFunction = new Map<FunctionDefinition, Principal>();
  const byKey = new Map<string, Principal>();

  function principalOf(definition: FunctionDefinition): Principal {
    const known = byFunction.get(definition);
    if (known) return known;
    const key = {
      accessKeyId: `${definition.name}.${randomBytes(6).toString('hex')}`,
      secretAccessKey: randomBytes(30).toString('base64'),
    };
    // What a release before this one recorded has no role; it was not confined then.
    const decide = definition.role ? createDecide(definition.role.statements) : () => 'allowed' as const;
    const principal = { definition, key, decide };
    byFunction.set(definition, principal);
    byKey.set(key.accessKeyId, principal);
    return principal;
  }

  function authorize(
    accessKeyId: string,
    action: string,
    resource: string,
    context: AccessRequest['context'],
    allowedBeside: (principal: Principal) => boolean,
  ): Denial | undefined {
    if (accessKeyId === hostAccessKey.accessKeyId) return undefined;
    const principal = byKey.get(accessKeyId);
    if (!principal) return { reason: 'unknownKey', message: UNKNOWN_KEY };
    const request = { action, resource, ...(context ? { context } : {}) };
    const decision = principal.decide(request);
    if (decision === 'allowed' || (decision === 'implicitDeny' && allowedBeside(principal))) return undefined;
    return { reason: 'denied', message: messageOf(principal.definition, request, decision) };
  }

  return {
    accessKeyOf: (definition) => principalOf(definition).key,
    functionOf: (accessKeyId) => byKey.get(accessKeyId)?.definition,
    authorize: (accessKeyId, action, resource, context) =>
      authorize(accessKeyId, action, resource, context, () => false),
    authorizeInvoke: (accessKeyId, functionArn) =>
      authorize(accessKeyId, INVOKE, functionArn, undefined, ({ definition }) =>
        permits(permissions, functionArn, definition.role?.arn),
      ),
  };
}

/** AWS names action and resource only; which row or prefix it was for is said too, as most grants here are by those. */
function messageOf({ arn, name, role }: FunctionDefinition, request: AccessRequest, decision: Decision): string {
  const [, , , , account] = arn.split(':');
  const user = `arn:aws:sts::${account}:assumed-role/${role?.arn.split('/').at(-1)}/${name}`;
  const why =
    decision === 'explicitDeny'
      ? 'with an explicit deny in an identity-based policy'
      : `because no identity-based policy allows the ${request.action} action`;
  const context = Object.entries(request.context ?? {}).map(([key, values]) => ` (${key}: ${values.join(', ')})`);
  return `User: ${user} is not authorized to perform: ${request.action} on resource: ${request.resource} ${why}${context.join('')}`;
}
