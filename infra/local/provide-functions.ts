import type { CustomResources } from './custom-resources.ts';
import { describeFunction, type FunctionDefinition } from './function.ts';
import type { Functions } from './functions.ts';
import type { Intrinsics } from './intrinsics.ts';
import { isCustomResource, isIgnored } from './resource-types.ts';
import type { Assembly, Resource } from './template.ts';

export type ProvideFunction = (name: string) => Promise<FunctionDefinition | undefined>;

/** Describes a function and has it run when somebody first asks for it. */
export function functionProvider(
  resources: Resource[],
  intrinsics: Intrinsics,
  assembly: Assembly,
  functions: Functions,
  stateDir: string,
): ProvideFunction {
  const byName = new Map(
    resources
      .filter(({ type }) => type === 'AWS::Lambda::Function')
      .map((resource) => [intrinsics.identityOf(resource).name, resource]),
  );
  return async (name) => {
    const known = functions.find(name);
    const resource = byName.get(name);
    if (known || !resource) return known;
    const definition = await describeFunction(resource, intrinsics, assembly, stateDir);
    functions.add(definition);
    return definition;
  };
}

/** A function whose variables hold what a custom resource gives comes after it, all others before, as a custom resource may call them. */
export async function provideFunctions(
  resources: Resource[],
  intrinsics: Intrinsics,
  provideFunction: ProvideFunction,
  customResources: CustomResources,
  lambdaEndpoint: string,
): Promise<void> {
  const all = resources.filter(
    (resource) => resource.type === 'AWS::Lambda::Function' && runsHere(resource, resources, intrinsics),
  );
  const dependsOnCustomResource = (resource: Resource) =>
    [resource, ...intrinsics.dependencies(resource).filter(({ type }) => type.startsWith('AWS::IAM::'))].some((each) =>
      intrinsics.dependencies(each).some(isCustomResource),
    );
  const early = all.filter((resource) => !dependsOnCustomResource(resource));
  for (const resource of early) await provideFunction(intrinsics.identityOf(resource).name);
  await customResources.apply(lambdaEndpoint);
  for (const resource of all) await provideFunction(intrinsics.identityOf(resource).name);
}

/**
 * A function in another language than Node.js is left out where nothing here asks for it, such as the CDK's own that make what the host
 * makes itself. Otherwise it is refused when it is described.
 */
function runsHere(resource: Resource, resources: Resource[], intrinsics: Intrinsics): boolean {
  const { Runtime } = resource.properties;
  if (typeof Runtime !== 'string' || Runtime.startsWith('nodejs')) return true;
  return resources.some((other) => {
    const { ServiceToken, ...rest } = other.properties;
    const asked = isCustomResource(other) ? { ...rest, ServiceToken } : rest;
    return !isIgnored(other) && intrinsics.dependencies({ ...other, properties: asked }).includes(resource);
  });
}
