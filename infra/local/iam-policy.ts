import * as z from 'zod';

/** A statement of a policy, resolved. Plain data: it is recorded with its function. */
export interface PolicyStatement {
  effect: 'Allow' | 'Deny';
  actions: Patterns;
  resources: Patterns;
  conditions: { operator: string; key: string; values: string[] }[];
}

interface Patterns {
  patterns: string[];
  /** NotAction, NotResource: everything but these. */
  except: boolean;
}

export interface AccessRequest {
  /** `dynamodb:PutItem` */
  action: string;
  /** An ARN. */
  resource: string;
  /** The values of condition keys, such as `dynamodb:LeadingKeys`. */
  context?: Record<string, readonly string[]>;
}

export type Decision = 'allowed' | 'implicitDeny' | 'explicitDeny';

/** What a connector may be granted. The host offers the first four; a test holds the template to the others as well. */
const EVALUATED = ['dynamodb', 's3', 'lambda', 'sqs', 'secretsmanager', 'ssm', 'rds-db'];
const CONDITION_KEYS = ['dynamodb:leadingkeys', 's3:prefix'];
const OPERATORS = ['StringEquals', 'StringLike', 'ForAllValues:StringEquals', 'ForAllValues:StringLike'];

const texts = z.union([z.string().transform((text) => [text]), z.array(z.string())]);
const policyDocument = z.object({
  Statement: z.preprocess(
    (statement) => [statement].flat(),
    z.array(
      z.object({
        Effect: z.enum(['Allow', 'Deny']),
        Action: texts.optional(),
        NotAction: texts.optional(),
        Resource: texts.optional(),
        NotResource: texts.optional(),
        Condition: z.record(z.string(), z.record(z.string(), texts)).default({}),
      }),
    ),
  ),
});

/** @throws where what it says of a service that is evaluated is not understood: a guess would allow or deny too much */
export function parsePolicy(document: unknown): PolicyStatement[] {
  const parsed = policyDocument.safeParse(document);
  if (!parsed.success) throw new Error(z.prettifyError(parsed.error));
  const statements = parsed.data.Statement.map((statement) => ({
    effect: statement.Effect,
    actions: patternsOf('Action', statement.Action, statement.NotAction),
    resources: patternsOf('Resource', statement.Resource, statement.NotResource),
    conditions: Object.entries(statement.Condition).flatMap(([operator, keys]) =>
      Object.entries(keys).map(([key, values]) => ({ operator, key: key.toLowerCase(), values })),
    ),
  }));
  const evaluated = statements.filter(isEvaluated);
  evaluated.forEach(requireUnderstood);
  return evaluated;
}

function patternsOf(name: string, some: string[] | undefined, allBut: string[] | undefined): Patterns {
  if ((some === undefined) === (allBut === undefined))
    throw new Error(`a statement has either ${name} or Not${name}, not both and not neither`);
  return { patterns: some ?? allBut ?? [], except: some === undefined };
}

function isEvaluated({ actions }: PolicyStatement): boolean {
  if (actions.except) return true;
  return actions.patterns.some((pattern) =>
    EVALUATED.some((service) => matcher([pattern.split(':')[0] ?? ''], 'i').test(service)),
  );
}

function requireUnderstood({ actions, resources, conditions }: PolicyStatement): void {
  const what = `the statement on ${actions.patterns.join(', ')}`;
  for (const { operator, key } of conditions) {
    if (!OPERATORS.includes(operator))
      throw new Error(`${what}: the local host does not know ${operator}; known are ${OPERATORS.join(', ')}`);
    if (!CONDITION_KEYS.includes(key))
      throw new Error(`${what}: the local host does not know the key ${key}; known are ${CONDITION_KEYS.join(', ')}`);
  }
  const variable = [...resources.patterns, ...conditions.flatMap(({ values }) => values)].find((text) =>
    text.includes('${'),
  );
  if (variable) throw new Error(`${what}: the local host does not know policy variables, as in ${variable}`);
}

/** An explicit deny wins over every allow. */
export function createDecide(statements: readonly PolicyStatement[]): (request: AccessRequest) => Decision {
  const compiled = statements.map((statement) => ({
    effect: statement.effect,
    covers: compile(statement),
  }));
  return (request) => {
    const covering = compiled.filter(({ covers }) => covers(request));
    if (covering.some(({ effect }) => effect === 'Deny')) return 'explicitDeny';
    return covering.length > 0 ? 'allowed' : 'implicitDeny';
  };
}

function compile({ actions, resources, conditions }: PolicyStatement): (request: AccessRequest) => boolean {
  const action = matcher(actions.patterns, 'i');
  const resource = matcher(resources.patterns);
  const tests = conditions.map(({ operator, key, values }) => {
    const value = operator.endsWith('Like') ? matcher(values) : { test: (text: string) => values.includes(text) };
    const setOperator = operator.startsWith('ForAllValues:');
    return (context: AccessRequest['context'] = {}): boolean => {
      const [, found = []] = Object.entries(context).find(([name]) => name.toLowerCase() === key) ?? [];
      // As on AWS, "for all values" holds where there is no value: a statement on keys must not allow what has none, such as Scan.
      return (setOperator || found.length > 0) && found.every((text) => value.test(text));
    };
  });
  return (request) =>
    action.test(request.action) !== actions.except &&
    resource.test(request.resource) !== resources.except &&
    tests.every((test) => test(request.context));
}

/** `*` is any text, `?` any one character; both also match a slash. */
function matcher(patterns: readonly string[], flags = ''): RegExp {
  const sources = patterns.map((pattern) =>
    pattern
      .replace(/[.+^${}()|[\]\\]/g, '\\$&')
      .replaceAll('*', '.*')
      .replaceAll('?', '.'),
  );
  return new RegExp(`^(?:${sources.join('|')})$`, `s${flags}`);
}
