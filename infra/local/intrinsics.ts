import { type Identity, identify, isCustomResource, nameProperty } from './resource-types.ts';
import { type Assembly, conditionHolds, pseudoParameter, type Resource, resourceName, type Stack } from './template.ts';

export interface Intrinsics {
  identityOf(resource: Resource): Identity;
  /** The properties with every intrinsic replaced by its value. */
  properties(resource: Resource): Record<string, unknown>;
  /** One of them, where others may not be known yet. */
  property(resource: Resource, name: string): unknown;
  /** Tells what only running knows: a stream's ARN, the Data of a custom resource. */
  assign(resource: Resource, values: { ref?: string; attributes?: Record<string, unknown> }): void;
  /** Resources that this one names directly, in any stack. */
  dependencies(resource: Resource): Resource[];
}

/** AWS::NoValue: the property that holds it is left out. */
const NO_VALUE = Symbol('AWS::NoValue');

interface Scope {
  stack: Stack;
  /** Who asks, for messages. */
  owner: string;
}

export function createIntrinsics(assembly: Assembly): Intrinsics {
  const identities = new Map<Resource, Identity>();
  const assigned = new Map<Resource, { ref?: string; attributes?: Record<string, unknown> }>();

  function identityOf(resource: Resource): Identity {
    let identity = identities.get(resource);
    if (!identity) {
      const property = nameProperty(resource);
      const explicit = property === undefined ? undefined : resource.properties[property];
      const scope = { stack: resource.stack, owner: resourceName(resource) };
      identity = identify(resource, explicit === undefined ? undefined : String(resolve(scope, explicit)));
      identities.set(resource, identity);
    }
    return identity;
  }

  function ref(scope: Scope, name: string): unknown {
    if (name === 'AWS::NoValue') return NO_VALUE;
    const pseudo = pseudoParameter(scope.stack, name);
    if (pseudo !== undefined) return pseudo;
    const parameter = scope.stack.parameters[name];
    if (parameter) {
      if (parameter.Default === undefined || parameter.Type?.startsWith('AWS::SSM::')) {
        throw new Error(
          `${scope.owner}: the value of parameter ${name} is not known locally; give it a default or leave it out`,
        );
      }
      return parameter.Default;
    }
    const resource = resourceOf(scope, name);
    return assigned.get(resource)?.ref ?? refOf(resource);
  }

  function refOf(resource: Resource): unknown {
    const scope = { stack: resource.stack, owner: resourceName(resource) };
    // A version or an alias is the function itself here; its Ref is a qualified ARN, which Invoke accepts.
    if (resource.type === 'AWS::Lambda::Version') return `${functionArnOf(scope, resource)}:1`;
    if (resource.type === 'AWS::Lambda::Alias') {
      return `${functionArnOf(scope, resource)}:${String(resolve(scope, resource.properties.Name))}`;
    }
    if (isCustomResource(resource)) throw new Error(`${scope.owner}: refers to it before it was created`);
    return identityOf(resource).ref;
  }

  function functionArnOf(scope: Scope, resource: Resource): string {
    const name = String(resolve(scope, resource.properties.FunctionName));
    return name.startsWith('arn:')
      ? name
      : `arn:aws:lambda:${scope.stack.region}:${scope.stack.account}:function:${name}`;
  }

  function getAtt(scope: Scope, name: string, attribute: string): unknown {
    const resource = resourceOf(scope, name);
    const known = { ...identityOf(resource).attributes, ...assigned.get(resource)?.attributes };
    if (Object.hasOwn(known, attribute)) return known[attribute];
    throw new Error(`${scope.owner}: attribute ${attribute} of ${resourceName(resource)} is not known locally`);
  }

  function resolve(scope: Scope, value: unknown): unknown {
    if (typeof value === 'string' && value.includes('{{resolve:')) {
      throw new Error(
        `${scope.owner}: ${value} is read by CloudFormation from AWS; refer to the secret by name and read it in the function`,
      );
    }
    if (Array.isArray(value)) return value.map((each) => resolve(scope, each)).filter((each) => each !== NO_VALUE);
    if (typeof value !== 'object' || value === null) return value;
    const entries = Object.entries(value);
    const [name, operand] = entries[0] ?? ['', undefined];
    if (entries.length === 1 && (name === 'Ref' || name.startsWith('Fn::'))) return intrinsic(scope, name, operand);
    return Object.fromEntries(
      entries.map(([key, each]) => [key, resolve(scope, each)]).filter(([, each]) => each !== NO_VALUE),
    );
  }

  function intrinsic(scope: Scope, name: string, operand: unknown): unknown {
    const list = Array.isArray(operand) ? operand : [operand];
    switch (name) {
      case 'Ref':
        return ref(scope, String(operand));
      case 'Fn::GetAtt': {
        const [logicalId, attribute] = getAttOperand(operand);
        return getAtt(scope, logicalId, attribute);
      }
      case 'Fn::Join':
        return (resolve(scope, list[1]) as unknown[]).join(String(list[0]));
      case 'Fn::Select':
        return select(scope, Number(resolve(scope, list[0])), resolve(scope, list[1]) as unknown[]);
      case 'Fn::Split':
        return String(resolve(scope, list[1])).split(String(list[0]));
      case 'Fn::Sub':
        return substitute(scope, String(list[0]), (list[1] ?? {}) as Record<string, unknown>);
      case 'Fn::If':
        return resolve(scope, conditionHolds(scope.stack, String(list[0])) ? list[1] : list[2]);
      case 'Fn::ImportValue':
        return importValue(scope, String(resolve(scope, operand)));
      case 'Fn::FindInMap':
        return findInMap(
          scope,
          list.map((each) => String(resolve(scope, each))),
        );
      default:
        throw new Error(`${scope.owner}: ${name} cannot be resolved locally; use a plain value`);
    }
  }

  function select(scope: Scope, index: number, list: unknown[]): unknown {
    if (index in list) return list[index];
    throw new Error(`${scope.owner}: Fn::Select asks for element ${index} of ${list.length}`);
  }

  function substitute(scope: Scope, text: string, variables: Record<string, unknown>): string {
    return text.replace(/\$\{(!?)([^}]+)\}/g, (_whole, literal: string, name: string) => {
      if (literal) return `\${${name}}`;
      if (Object.hasOwn(variables, name)) return String(resolve(scope, variables[name]));
      const dot = name.indexOf('.');
      return String(dot < 0 ? ref(scope, name) : getAtt(scope, name.slice(0, dot), name.slice(dot + 1)));
    });
  }

  function exportOf(scope: Scope, name: string): { stack: Stack; value: unknown } {
    for (const stack of assembly.stacks) {
      for (const output of Object.values(stack.outputs)) {
        if (output.Export && resolve({ stack, owner: stack.name }, output.Export.Name) === name)
          return { stack, value: output.Value };
      }
    }
    throw new Error(`${scope.owner}: no stack of ${assembly.directory} exports ${name}`);
  }

  function importValue(scope: Scope, name: string): unknown {
    const { stack, value } = exportOf(scope, name);
    return resolve({ stack, owner: scope.owner }, value);
  }

  function findInMap(scope: Scope, [map, first, second]: string[]): unknown {
    const value = scope.stack.mappings[map ?? '']?.[first ?? '']?.[second ?? ''];
    if (value === undefined) throw new Error(`${scope.owner}: mapping ${map} has no ${first}.${second}`);
    return value;
  }

  /** Every logical id that a value names, without resolving it. */
  function named(scope: Scope, value: unknown): Resource[] {
    if (Array.isArray(value)) return value.flatMap((each) => named(scope, each));
    if (typeof value !== 'object' || value === null) return [];
    return Object.entries(value).flatMap(([key, operand]) => {
      if (key === 'Ref') return present(scope, String(operand));
      if (key === 'Fn::GetAtt') return present(scope, getAttOperand(operand)[0]);
      if (key === 'Fn::Sub') return namedInText(scope, operand);
      if (key === 'Fn::ImportValue') {
        const { stack, value: exported } = exportOf(scope, String(resolve(scope, operand)));
        return named({ stack, owner: scope.owner }, exported);
      }
      return named(scope, operand);
    });
  }

  function namedInText(scope: Scope, operand: unknown): Resource[] {
    const [text, variables] = Array.isArray(operand) ? operand : [operand, {}];
    const inText = [...String(text).matchAll(/\$\{([^}!][^}]*)\}/g)].flatMap((match) =>
      present(scope, match[1]!.split('.')[0]!),
    );
    return [...inText, ...named(scope, variables)];
  }

  function present(scope: Scope, logicalId: string): Resource[] {
    const resource = scope.stack.resources.get(logicalId);
    return resource ? [resource] : [];
  }

  return {
    identityOf,
    properties: (resource) =>
      resolve({ stack: resource.stack, owner: resourceName(resource) }, resource.properties) as Record<string, unknown>,
    property: (resource, name) =>
      resolve({ stack: resource.stack, owner: resourceName(resource) }, resource.properties[name]),
    assign: (resource, values) => {
      assigned.set(resource, values);
    },
    dependencies: (resource) => {
      const scope = { stack: resource.stack, owner: resourceName(resource) };
      return [...named(scope, resource.properties), ...resource.dependsOn.flatMap((id) => present(scope, id))];
    },
  };
}

function resourceOf(scope: Scope, logicalId: string): Resource {
  const resource = scope.stack.resources.get(logicalId);
  if (!resource) throw new Error(`${scope.owner}: refers to ${logicalId}, which is not in stack ${scope.stack.name}`);
  return resource;
}

function getAttOperand(operand: unknown): [logicalId: string, attribute: string] {
  if (Array.isArray(operand)) return [String(operand[0]), String(operand[1])];
  const text = String(operand);
  const dot = text.indexOf('.');
  return [text.slice(0, dot), text.slice(dot + 1)];
}

/** Each resource after those it names, so that what one produces is known to the next. */
export function inDependencyOrder(resources: Resource[], intrinsics: Intrinsics): Resource[] {
  const order: Resource[] = [];
  const state = new Map<Resource, 'visiting' | 'done'>();
  const visit = (resource: Resource, path: string[]): void => {
    if (state.get(resource) === 'done') return;
    if (state.get(resource) === 'visiting') {
      throw new Error(`circular dependency: ${[...path, resource.logicalId].join(' -> ')}`);
    }
    state.set(resource, 'visiting');
    for (const dependency of intrinsics.dependencies(resource)) visit(dependency, [...path, resource.logicalId]);
    state.set(resource, 'done');
    order.push(resource);
  };
  for (const resource of resources) visit(resource, []);
  return order.filter((resource) => resources.includes(resource));
}
