import { randomUUID } from 'node:crypto';
import { cp, rename, rm, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import * as z from 'zod';
import type { FunctionDefinition } from './function.ts';
import type { Functions } from './functions.ts';
import { type Intrinsics, inDependencyOrder } from './intrinsics.ts';
import { customResourceResponseUrl, type Invoke } from './lambda-api.ts';
import { functionNameOf } from './properties.ts';
import { readStateFile, writeStateFile } from './state-file.ts';
import { type Resource, resourceName } from './template.ts';

export interface CustomResources {
  /** Called by the HTTP server; false where nobody waits for the token. */
  respond(token: string, body: string): boolean;
  /** Each is created or updated after what it refers to; then what left the template is deleted. */
  apply(endpoint: string): Promise<void>;
}

export interface CustomResourcesOptions {
  resources: Resource[];
  intrinsics: Intrinsics;
  functions: Functions;
  /** Resolves the function of a ServiceToken and makes it known to `functions`. */
  provideFunction: (name: string) => Promise<FunctionDefinition | undefined>;
  invoke: Invoke;
  stateDir: string;
}

/** What was created and is not deleted yet. */
interface CustomResourceRecord {
  stack: string;
  logicalId: string;
  type: string;
  physicalResourceId: string;
  properties: Record<string, unknown>;
  data: Record<string, unknown>;
  /** With a copy of its code: a resource that leaves the template often leaves together with its function. */
  function: FunctionDefinition;
}

type Records = Record<string, CustomResourceRecord>;

const responseBody = z.object({
  Status: z.enum(['SUCCESS', 'FAILED']),
  Reason: z.string().optional(),
  PhysicalResourceId: z.string().optional(),
  Data: z.record(z.string(), z.unknown()).optional(),
});

type Response = z.infer<typeof responseBody>;

interface Request {
  RequestType: 'Create' | 'Update' | 'Delete';
  StackName: string;
  LogicalResourceId: string;
  ResourceType: string;
  ResourceProperties: Record<string, unknown>;
  OldResourceProperties?: Record<string, unknown>;
  PhysicalResourceId?: string;
}

/** CloudFormation's own limit, where the resource sets no ServiceTimeout. */
const DEFAULT_TIMEOUT_SECONDS = 3_600;

export function createCustomResources(options: CustomResourcesOptions): CustomResources {
  const { resources, intrinsics, functions } = options;
  const file = join(options.stateDir, 'custom-resources.json');
  const waiting = new Map<string, (response: Response) => void>();
  let records: Records = {};
  let endpoint = '';

  async function save(key: string, record: CustomResourceRecord | undefined): Promise<void> {
    const { [key]: _replaced, ...others } = records;
    records = record ? { ...others, [key]: record } : others;
    await writeStateFile(file, records);
  }

  async function apply(lambdaEndpoint: string): Promise<void> {
    endpoint = lambdaEndpoint;
    records = ((await readStateFile(file)) ?? {}) as Records;
    const present = new Set(resources.map(keyOf));
    const replaced: (() => Promise<unknown>)[] = [];
    for (const resource of inDependencyOrder(resources, intrinsics)) await provide(resource, replaced);
    // Last, as CloudFormation does: what was renamed is there under its new id by then.
    for (const removeOld of replaced) await removeOld();
    for (const [key, record] of Object.entries(records).reverse()) {
      if (!present.has(key)) await remove(key, record);
    }
  }

  async function remove(key: string, record: CustomResourceRecord): Promise<void> {
    await withFunction(record.function, () => send(deleteRequest(record), record.function, record.properties));
    await save(key, undefined);
  }

  /** The recorded function serves where the template has none of that name any more. */
  async function withFunction(definition: FunctionDefinition, work: () => Promise<unknown>): Promise<void> {
    if (await options.provideFunction(definition.name)) {
      await work();
      return;
    }
    functions.add(definition);
    try {
      await work();
    } finally {
      functions.remove(definition.name);
    }
  }

  async function provide(resource: Resource, replaced: (() => Promise<unknown>)[]): Promise<void> {
    const key = keyOf(resource);
    const properties = intrinsics.properties(resource);
    const existing = records[key];
    if (existing && isDeepStrictEqual(existing.properties, properties)) {
      assign(resource, existing);
      return;
    }
    const definition = await functionOf(resource, properties);
    const response = await send(
      {
        ...(existing
          ? {
              RequestType: 'Update',
              PhysicalResourceId: existing.physicalResourceId,
              OldResourceProperties: existing.properties,
            }
          : { RequestType: 'Create' }),
        StackName: resource.stack.name,
        LogicalResourceId: resource.logicalId,
        ResourceType: resource.type,
        ResourceProperties: properties,
      },
      definition,
      properties,
    );
    const record: CustomResourceRecord = {
      stack: resource.stack.name,
      logicalId: resource.logicalId,
      type: resource.type,
      physicalResourceId: response.PhysicalResourceId ?? existing?.physicalResourceId ?? `${key}-${randomUUID()}`,
      properties,
      data: response.Data ?? {},
      function: await withCopiedCode(definition, options.stateDir),
    };
    await save(key, record);
    assign(resource, record);
    // Another physical id is a replacement: the old one is deleted afterwards.
    if (existing && existing.physicalResourceId !== record.physicalResourceId) {
      replaced.push(() => send(deleteRequest(existing), definition, existing.properties));
    }
  }

  function assign(resource: Resource, record: CustomResourceRecord): void {
    intrinsics.assign(resource, { ref: record.physicalResourceId, attributes: record.data });
  }

  async function functionOf(resource: Resource, properties: Record<string, unknown>): Promise<FunctionDefinition> {
    const token = String(properties.ServiceToken);
    const definition = await options.provideFunction(functionNameOf(token));
    if (!definition) {
      throw new Error(
        `${resourceName(resource)}: ServiceToken ${token} is not a Lambda function of this app; the local host asks functions only`,
      );
    }
    return definition;
  }

  async function send(
    request: Request,
    definition: FunctionDefinition,
    properties: Record<string, unknown>,
  ): Promise<Response> {
    const token = randomUUID();
    const name = `${request.StackName}/${request.LogicalResourceId}`;
    const timeoutMs = Number(properties.ServiceTimeout ?? DEFAULT_TIMEOUT_SECONDS) * 1000;
    const { StackName, ...rest } = request;
    const event = {
      ...rest,
      StackId: `arn:aws:cloudformation:${definition.region}:${definition.arn.split(':')[4]}:stack/${StackName}/local`,
      RequestId: token,
      ResponseURL: customResourceResponseUrl(endpoint, token),
      ServiceToken: definition.arn,
    };
    let timer: NodeJS.Timeout | undefined;
    try {
      const response = await new Promise<Response>((fulfil, reject) => {
        const late = `${name}: no answer to ${request.RequestType} within ${timeoutMs / 1000} s; the function must PUT it to ResponseURL`;
        timer = setTimeout(() => reject(new Error(late)), timeoutMs);
        waiting.set(token, fulfil);
        options.invoke(definition.arn, JSON.stringify(event), 'RequestResponse').then((result) => {
          if (result.functionError)
            reject(new Error(`${name}: ${request.RequestType} failed in ${definition.name}: ${result.payload}`));
        }, reject);
      });
      if (response.Status === 'FAILED')
        throw new Error(`${name}: ${request.RequestType} failed: ${response.Reason ?? 'no reason given'}`);
      return response;
    } finally {
      clearTimeout(timer);
      waiting.delete(token);
    }
  }

  return {
    respond(token, body) {
      const fulfil = waiting.get(token);
      if (!fulfil) return false;
      fulfil(parseResponse(body));
      return true;
    },
    apply,
  };
}

function parseResponse(body: string): Response {
  try {
    return responseBody.parse(JSON.parse(body));
  } catch (error) {
    return {
      Status: 'FAILED',
      Reason: `the answer is not a custom resource response (${(error as Error).message}): ${body}`,
    };
  }
}

function deleteRequest(record: CustomResourceRecord): Request {
  return {
    RequestType: 'Delete',
    StackName: record.stack,
    LogicalResourceId: record.logicalId,
    ResourceType: record.type,
    ResourceProperties: record.properties,
    PhysicalResourceId: record.physicalResourceId,
  };
}

/** An asset's directory is named by its content, so one copy serves all records of the same code. */
async function withCopiedCode(definition: FunctionDefinition, stateDir: string): Promise<FunctionDefinition> {
  // Inline code is in the state directory already.
  if (definition.codeDirectory.startsWith(resolve(stateDir))) return definition;
  const copy = resolve(stateDir, 'code', basename(definition.codeDirectory));
  const isCopied = await stat(copy).then(
    () => true,
    () => false,
  );
  if (!isCopied) {
    const partial = `${copy}.partial`;
    await rm(partial, { recursive: true, force: true });
    await cp(definition.codeDirectory, partial, { recursive: true });
    await rename(partial, copy);
  }
  return { ...definition, codeDirectory: copy };
}

function keyOf(resource: Resource): string {
  return `${resource.stack.name}/${resource.logicalId}`;
}
