import { Annotations, Aspects, CfnResource, Stack } from 'aws-cdk-lib/core';
import type { Construct, IConstruct } from 'constructs';

/** CloudFormation takes no more in one stack. */
const most = 500;
const many = 400;

interface Counted {
  readonly what: string;
  readonly scope: Construct;
}

const counted = new WeakMap<Stack, Counted[]>();

const resourcesUnder = (scope: IConstruct): number => scope.node.findAll().filter(CfnResource.isCfnResource).length;

/** Says at synth what a platform or a pipeline adds to its stack, and refuses a stack that can't be deployed. */
export const countResources = (scope: Construct, what: string): void => {
  const stack = Stack.of(scope);
  const parts = counted.get(stack);
  if (parts !== undefined) {
    parts.push({ scope, what });
    return;
  }
  const first = [{ scope, what }];
  counted.set(stack, first);
  // When all is added: aspects run then, and validation after them.
  Aspects.of(stack).add({ visit: (node) => node === stack && tell(stack, first) }, { priority: 1000 });
  stack.node.addValidation({ validate: () => problems(stack, first) });
};

const describe = (parts: readonly Counted[]): string =>
  parts.map(({ what, scope }) => `${what}: ${resourcesUnder(scope)} resources`).join(', ');

const tell = (stack: Stack, parts: readonly Counted[]): void => {
  const total = resourcesUnder(stack);
  const annotations = Annotations.of(stack);
  const text = `${describe(parts)}; in all ${total}, and a stack can hold ${most}`;
  if (total > many) annotations.addWarningV2('sluice:resources', `${text}. ${howToSplit}`);
  else annotations.addInfo(text);
};

const problems = (stack: Stack, parts: readonly Counted[]): string[] => {
  const total = resourcesUnder(stack);
  return total <= most
    ? []
    : [`the stack has ${total} resources, and a stack can hold ${most}: ${describe(parts)}. ${howToSplit}`];
};

const howToSplit =
  "Put some of the pipelines into a stack of their own, which finds the platform by Platform.fromName(this, 'Platform', '<name>')";
