import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { describeRole, type Role } from './iam-role.ts';
import type { Intrinsics } from './intrinsics.ts';
import { integer, parseProperties, unsupported } from './properties.ts';
import { type Assembly, type Resource, resourceName } from './template.ts';

/** AWS::Lambda::Function, resolved. Plain data: it is also recorded, to delete custom resources whose function left the template. */
export interface FunctionDefinition {
  name: string;
  logicalId: string;
  arn: string;
  region: string;
  codeDirectory: string;
  handler: string;
  timeoutMs: number;
  memoryMb: number;
  environment: Record<string, string>;
  reservedConcurrency?: number | undefined;
  recursiveLoop: 'Allow' | 'Terminate';
  /** Absent in what releases before roles were evaluated have recorded. */
  role?: Role;
}

const functionProperties = z.object({
  Handler: z.string().regex(/^.+\.[^.]+$/, 'Handler must be file.export'),
  Runtime: z.string().startsWith('nodejs', 'the local host runs Node.js functions only'),
  Code: z.object({
    S3Key: z.string().optional(),
    ZipFile: z.string().optional(),
    ImageUri: unsupported('container images do not run locally; use a bundle'),
  }),
  Role: z.string('give the ARN of its role'),
  Layers: z.array(z.unknown()).max(0, 'layers do not run locally; bundle what they hold').optional(),
  Timeout: integer.default(3),
  MemorySize: integer.default(128),
  Environment: z.object({ Variables: z.record(z.string(), z.coerce.string()).default({}) }).optional(),
  ReservedConcurrentExecutions: integer.optional(),
  RecursiveLoop: z.enum(['Allow', 'Terminate']).default('Terminate'),
});

export async function describeFunction(
  resource: Resource,
  intrinsics: Intrinsics,
  assembly: Assembly,
  stateDir: string,
): Promise<FunctionDefinition> {
  const resources = assembly.stacks.flatMap((stack) => [...stack.resources.values()]);
  const properties = parseProperties(functionProperties, resource, intrinsics);
  const { name, attributes } = intrinsics.identityOf(resource);
  return {
    name,
    logicalId: resource.logicalId,
    arn: attributes.Arn ?? name,
    region: resource.stack.region,
    codeDirectory:
      properties.Code.ZipFile === undefined
        ? await assetDirectory(resource, assembly, properties.Code.S3Key)
        : await inlineCode(join(stateDir, 'functions', name), properties.Code.ZipFile),
    handler: properties.Handler,
    timeoutMs: properties.Timeout * 1000,
    memoryMb: properties.MemorySize,
    environment: properties.Environment?.Variables ?? {},
    reservedConcurrency: properties.ReservedConcurrentExecutions,
    recursiveLoop: properties.RecursiveLoop,
    role: describeRole(resource, properties.Role, resources, intrinsics),
  };
}

async function assetDirectory(resource: Resource, assembly: Assembly, key: string | undefined): Promise<string> {
  const path = assembly.assets.get(key ?? '');
  if (path === undefined) {
    throw new Error(
      `${resourceName(resource)}: no asset of ${assembly.directory} has the key ${key}; synthesize the app again`,
    );
  }
  const isDirectory = await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
  if (!isDirectory) {
    throw new Error(
      `${resourceName(resource)}: the code ${path} is not a directory; give the function a directory, not an archive`,
    );
  }
  return path;
}

async function inlineCode(directory: string, code: string): Promise<string> {
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, 'index.js'), code);
  return directory;
}
