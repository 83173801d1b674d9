import { Secret } from 'aws-cdk-lib/aws-secretsmanager';
import { StringParameter } from 'aws-cdk-lib/aws-ssm';
import { App, Stack } from 'aws-cdk-lib/core';
import { expect, it } from 'vitest';
import { postgresSink } from '../../../infra/connectors.ts';
import { Pipeline } from '../../../infra/constructs/pipeline.ts';
import { secretReferences, secretRights } from '../../../infra/constructs/secret-access.ts';
import { deployed, platformStack } from './stack.ts';

const rights = (config: (stack: Stack) => unknown) => {
  const stack = new Stack(new App(), 'Stack', { env: { account: '123456789012', region: 'eu-west-1' } });
  const statements = secretRights(stack, secretReferences(config(stack)));
  return statements.map((statement) => {
    const { Action, Resource } = stack.resolve(statement.toStatementJson());
    return [Action, ...[Resource].flat().map((one) => textOf(one))];
  });
};

const textOf = (value: unknown): string => {
  if (typeof value === 'string') return value;
  const [name, operand] = Object.entries(value as object)[0]!;
  return name === 'Fn::Join' ? operand[1].map(textOf).join(operand[0]) : `<${[operand].flat().join('.')}>`;
};

const secrets = 'arn:<AWS::Partition>:secretsmanager:eu-west-1:123456789012:secret';
const parameters = 'arn:<AWS::Partition>:ssm:eu-west-1:123456789012:parameter';

it('is the right to just those secrets that a config names', () => {
  expect(
    rights(() => ({
      url: 'postgres://${secretsmanager:shop/db:user}:${secretsmanager:shop/db:password}@h/d',
      nested: [{ ca: '${ssm:/shop/ca}', other: '${ssm:plain}' }],
      plain: '${env:X} and ${file:/y}',
    })),
  ).toEqual([
    ['secretsmanager:GetSecretValue', `${secrets}:shop/db-??????`],
    ['ssm:GetParameter', `${parameters}/shop/ca`, `${parameters}/plain`],
  ]);
});

it('is by ARN, whole or without the characters at its end', () => {
  const arn = 'arn:aws:secretsmanager:us-east-1:123456789012:secret:shop-AbCdEf';
  expect(
    rights(() => [`\${secretsmanager:${arn}:password}`, `\${ssm:${parameters}/x}`.replace('<AWS::Partition>', 'aws')]),
  ).toEqual([
    ['secretsmanager:GetSecretValue', arn, `${arn}-??????`],
    ['ssm:GetParameter', `${parameters}/x`.replace('<AWS::Partition>', 'aws')],
  ]);
});

it('is for secrets and parameters that the app makes or finds', () => {
  expect(
    rights((stack) => {
      const made = new Secret(stack, 'Made');
      const found = Secret.fromSecretNameV2(stack, 'Found', 'found');
      const parameter = new StringParameter(stack, 'Parameter', { stringValue: 'x' });
      return {
        byArn: `\${secretsmanager:${made.secretArn}:password}`,
        byName: `\${secretsmanager:${new Secret(stack, 'Named').secretName}}`,
        found: `\${secretsmanager:${found.secretArn}:password}`,
        parameter: `\${ssm:${parameter.parameterName}}`,
      };
    }),
  ).toEqual([
    [
      'secretsmanager:GetSecretValue',
      expect.stringMatching(/^<Made[0-9A-F]{8}>$/),
      expect.stringMatching(/^<Made[0-9A-F]{8}>-\?{6}$/),
      expect.stringMatching(/^arn:<AWS::Partition>:secretsmanager:eu-west-1:123456789012:secret:<.*>-<.*>-\?{6}$/),
      `${secrets}:found`,
      `${secrets}:found-??????`,
    ],
    [
      'ssm:GetParameter',
      expect.stringMatching(/:parameter<Parameter[0-9A-F]{8}>$/),
      expect.stringMatching(/:parameter\/<Parameter[0-9A-F]{8}>$/),
    ],
  ]);
});

it('is in the role of the connector that reads them, and of no other', () => {
  const { stack, platform, template: make } = platformStack({}, deployed);
  const pipeline = new Pipeline(stack, 'Shop', { platform, name: 'shop', externalTopics: ['orders'] });
  const secret = new Secret(stack, 'Secret');
  const sink = (password: string) => ({
    from: ['orders'],
    connector: postgresSink({ host: 'h', database: 'd', user: 'u', password }),
  });
  pipeline.addSink('one', sink(`\${secretsmanager:${secret.secretArn}:password}`));
  pipeline.addSink('two', sink('${env:PASSWORD}'));
  const roles = Object.entries(make().findResources('AWS::IAM::Role'));
  const readers = roles.filter(([, role]) => JSON.stringify(role).includes('secretsmanager:GetSecretValue'));
  expect(readers.map(([id]) => id.replace(/[0-9A-F]{8}$/, ''))).toEqual(['ShoponeRole']);
  // The row keeps the reference.
  const spec = JSON.stringify(make().findResources('Custom::SluiceConnector'));
  expect(spec).toContain('${secretsmanager:');
  expect(spec).not.toContain('{{resolve:');
});
