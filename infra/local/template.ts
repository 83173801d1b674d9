import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';

export interface Resource {
  stack: Stack;
  logicalId: string;
  type: string;
  properties: Record<string, unknown>;
  dependsOn: string[];
}

export interface Stack {
  name: string;
  region: string;
  account: string;
  resources: Map<string, Resource>;
  parameters: Record<string, { Type?: string; Default?: unknown }>;
  mappings: Record<string, Record<string, Record<string, unknown>>>;
  conditions: Record<string, unknown>;
  outputs: Record<string, { Value: unknown; Export?: { Name: unknown } }>;
}

export interface Assembly {
  directory: string;
  stacks: Stack[];
  /** From the object key that a template names to the directory or file of the asset. */
  assets: Map<string, string>;
}

interface Artifact {
  type: string;
  environment?: string;
  properties?: { templateFile?: string; file?: string; stackName?: string; directoryName?: string };
}

const LOCAL_ACCOUNT = '000000000000';

/** Reads a cloud assembly (cdk.out), the assemblies of its stages included. */
export async function loadAssembly(directory: string, defaultRegion: string): Promise<Assembly> {
  const assembly: Assembly = { directory: resolve(directory), stacks: [], assets: new Map() };
  await readAssembly(assembly, assembly.directory, defaultRegion);
  if (assembly.stacks.length === 0) {
    throw new Error(`${assembly.directory} holds no stack; synthesize the app first (cdk synth)`);
  }
  return assembly;
}

async function readAssembly(assembly: Assembly, directory: string, defaultRegion: string): Promise<void> {
  const manifest = (await readJson(join(directory, 'manifest.json'))) as { artifacts?: Record<string, Artifact> };
  for (const [id, artifact] of Object.entries(manifest.artifacts ?? {})) {
    if (artifact.type === 'aws:cloudformation:stack') {
      assembly.stacks.push(await readStack(directory, id, artifact, defaultRegion));
    } else if (artifact.type === 'cdk:asset-manifest') {
      await readAssets(assembly, directory, required(id, artifact.properties?.file, 'file'));
    } else if (artifact.type === 'cdk:cloud-assembly') {
      await readAssembly(
        assembly,
        join(directory, required(id, artifact.properties?.directoryName, 'directoryName')),
        defaultRegion,
      );
    }
  }
}

async function readStack(directory: string, id: string, artifact: Artifact, defaultRegion: string): Promise<Stack> {
  const template = (await readJson(
    join(directory, required(id, artifact.properties?.templateFile, 'templateFile')),
  )) as {
    Resources?: Record<
      string,
      { Type: string; Properties?: Record<string, unknown>; DependsOn?: string | string[]; Condition?: string }
    >;
    Parameters?: Stack['parameters'];
    Mappings?: Stack['mappings'];
    Conditions?: Stack['conditions'];
    Outputs?: Stack['outputs'];
  };
  const [account, region] = (artifact.environment ?? '').replace('aws://', '').split('/');
  const stack: Stack = {
    name: artifact.properties?.stackName ?? id,
    region: !region || region === 'unknown-region' ? defaultRegion : region,
    account: !account || account === 'unknown-account' ? LOCAL_ACCOUNT : account,
    resources: new Map(),
    parameters: template.Parameters ?? {},
    mappings: template.Mappings ?? {},
    conditions: template.Conditions ?? {},
    outputs: template.Outputs ?? {},
  };
  for (const [logicalId, resource] of Object.entries(template.Resources ?? {})) {
    if (resource.Condition !== undefined && !conditionHolds(stack, resource.Condition)) continue;
    stack.resources.set(logicalId, {
      stack,
      logicalId,
      type: resource.Type,
      properties: resource.Properties ?? {},
      dependsOn: [resource.DependsOn ?? []].flat(),
    });
  }
  return stack;
}

async function readAssets(assembly: Assembly, directory: string, file: string): Promise<void> {
  const manifest = (await readJson(join(directory, file))) as {
    files?: Record<string, { source?: { path?: string }; destinations?: Record<string, { objectKey: string }> }>;
  };
  for (const asset of Object.values(manifest.files ?? {})) {
    if (!asset.source?.path) continue;
    for (const destination of Object.values(asset.destinations ?? {})) {
      assembly.assets.set(destination.objectKey, resolve(directory, asset.source.path));
    }
  }
}

/** Conditions of CDK apps compare pseudo parameters and parameter defaults; those can be decided before anything exists. */
export function conditionHolds(stack: Stack, name: string): boolean {
  const condition = stack.conditions[name];
  if (condition === undefined) throw new Error(`${stack.name}: the template has no condition ${name}`);
  return evaluate(stack, condition, name);
}

function evaluate(stack: Stack, condition: unknown, name: string): boolean {
  const [operator, operand] = Object.entries(condition as Record<string, unknown>)[0] ?? [];
  const operands = Array.isArray(operand) ? operand : [operand];
  switch (operator) {
    case 'Condition':
      return conditionHolds(stack, String(operand));
    case 'Fn::Not':
      return !evaluate(stack, operands[0], name);
    case 'Fn::And':
      return operands.every((each) => evaluate(stack, each, name));
    case 'Fn::Or':
      return operands.some((each) => evaluate(stack, each, name));
    case 'Fn::Equals':
      return comparable(stack, operands[0], name) === comparable(stack, operands[1], name);
    default:
      throw new Error(`${stack.name}: condition ${name} uses ${operator}, which the local host cannot decide`);
  }
}

function comparable(stack: Stack, operand: unknown, name: string): string {
  if (typeof operand !== 'object' || operand === null) return String(operand);
  const reference = (operand as { Ref?: string }).Ref;
  const value =
    reference === undefined ? undefined : (pseudoParameter(stack, reference) ?? stack.parameters[reference]?.Default);
  if (value === undefined) {
    throw new Error(
      `${stack.name}: condition ${name} compares ${JSON.stringify(operand)}, which is not known before deployment`,
    );
  }
  return String(value);
}

export function pseudoParameter(stack: Stack, name: string): string | undefined {
  switch (name) {
    case 'AWS::Region':
      return stack.region;
    case 'AWS::AccountId':
      return stack.account;
    case 'AWS::Partition':
      return 'aws';
    case 'AWS::URLSuffix':
      return 'amazonaws.com';
    case 'AWS::StackName':
      return stack.name;
    case 'AWS::StackId':
      return `arn:aws:cloudformation:${stack.region}:${stack.account}:stack/${stack.name}/local`;
    default:
      return undefined;
  }
}

/** How messages name a resource. */
export function resourceName(resource: Resource): string {
  return `${resource.stack.name}/${resource.logicalId} (${resource.type})`;
}

function required(id: string, value: string | undefined, property: string): string {
  if (value === undefined)
    throw new Error(`manifest.json: artifact ${id} has no ${property}; synthesize the app again`);
  return value;
}

async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new Error(`cannot read ${path}; synthesize the app again`, { cause });
  }
}
