import { PolicyStatement } from 'aws-cdk-lib/aws-iam';
import { ArnFormat, Stack, Token } from 'aws-cdk-lib/core';
import type { Construct } from 'constructs';

/** Tokens of the CDK in a text have braces of their own. */
const token = String.raw`\$\{Token\[[^\]]*\]\}`;
const reference = new RegExp(String.raw`\$\{(secretsmanager|ssm):((?:${token}|[^}])+)\}`, 'g');
/** An ARN has seven parts, a name has no colon; after either may stand a key of the JSON that the secret is. */
const secretId = new RegExp(`^(?:arn(?::(?:${token}|[^:])*){6}|(?:${token}|[^:])+)`);
const onlyToken = new RegExp(`^${token}$`);

export type SecretService = 'secretsmanager' | 'ssm';

interface SecretReference {
  readonly service: SecretService;
  /** Name or ARN of the secret or parameter. */
  readonly id: string;
}

/** Every secret that a config refers to. */
export const secretReferences = (config: unknown): readonly SecretReference[] => {
  if (typeof config === 'string')
    return Array.from(config.matchAll(reference), ([, service, name]) => ({
      service: service as SecretService,
      id: service === 'ssm' ? name! : secretId.exec(name!)![0],
    }));
  return typeof config === 'object' && config !== null ? Object.values(config).flatMap(secretReferences) : [];
};

/** The right to read exactly these. A KMS key of one's own that they are encrypted with has to be granted by hand. */
export const secretRights = (scope: Construct, references: readonly SecretReference[]): readonly PolicyStatement[] => {
  const stack = Stack.of(scope);
  const right = (action: string, service: SecretService, arnsOf: (stack: Stack, id: string) => readonly string[]) => {
    const ids = references.filter((one) => one.service === service).map(({ id }) => id);
    const resources = [...new Set(ids)].flatMap((id) => arnsOf(stack, id));
    return resources.length === 0 ? [] : [new PolicyStatement({ actions: [action], resources })];
  };
  return [
    ...right('secretsmanager:GetSecretValue', 'secretsmanager', secretArns),
    ...right('ssm:GetParameter', 'ssm', parameterArns),
  ];
};

/** Secrets Manager ends an ARN with six characters, which a name has not and a part of an ARN may not have. */
const secretArns = (stack: Stack, id: string): readonly string[] =>
  id.startsWith('arn:') || isReference(stack, id)
    ? [id, `${id}-??????`]
    : [
        `${stack.formatArn({ service: 'secretsmanager', resource: 'secret', arnFormat: ArnFormat.COLON_RESOURCE_NAME, resourceName: id })}-??????`,
      ];

/** `secret.secretArn` refers to the secret; `secret.secretName` is cut out of that. */
const isReference = (stack: Stack, id: string): boolean =>
  onlyToken.test(id) && !JSON.stringify(stack.resolve(id)).includes('Fn::Select');

const parameterArns = (stack: Stack, id: string): readonly string[] => {
  if (id.startsWith('arn:')) return [id];
  const arn = (resource: string) => stack.formatArn({ service: 'ssm', resource });
  // Whether a name that is known only later begins with a slash, nobody can say.
  return Token.isUnresolved(id)
    ? [arn(`parameter${id}`), arn(`parameter/${id}`)]
    : [arn(`parameter/${id.replace(/^\//, '')}`)];
};
