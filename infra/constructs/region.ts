import { ArnFormat, Stack, Token } from 'aws-cdk-lib/core';
import type { Construct } from 'constructs';
import type { Problem } from '../problems.ts';
import type { IPlatform } from './platform-use.ts';
import type { Trigger } from './trigger.ts';

/** A pipeline's stack in another region than its platform would deploy, and its connectors would never run. */
export const platformRegionProblems = (scope: Construct, { table }: IPlatform): readonly Problem[] =>
  otherRegion(scope, table.node.scope!.node.path, table.env.region).map((where) => ({
    path: ['platform'],
    message: `${where}, but connectors run beside their platform: make a Platform in this region, or put the pipeline into that one`,
  }));

/** AWS refuses events from another region half-way through a deployment. */
export const triggerRegionProblems = (scope: Construct, trigger: Trigger): readonly Problem[] => {
  const { objects, queue } = trigger._parts;
  const where = [
    ...(typeof objects?.bucket === 'object'
      ? otherRegion(scope, objects.bucket.node.path, objects.bucket.env.region)
      : []),
    ...(typeof queue === 'object' ? otherRegion(scope, queue.node.path, queue.env.region) : []),
    ...(typeof queue === 'string' ? otherRegion(scope, queue, regionOfArn(scope, queue)) : []),
  ];
  return where.map((one) => ({
    path: ['trigger'],
    message: `${one}, but AWS wakes functions only of the region where something happens: put both into one`,
  }));
};

const regionOfArn = (scope: Construct, arn: string): string =>
  Stack.of(scope).splitArn(arn, ArnFormat.NO_RESOURCE_NAME).region!;

/** Where both regions are known at synth. */
const otherRegion = (scope: Construct, what: string, region: string): readonly string[] => {
  const own = Stack.of(scope).region;
  return Token.isUnresolved(own) || Token.isUnresolved(region) || own === region
    ? []
    : [`${what} is in ${region} and this stack in ${own}`];
};
