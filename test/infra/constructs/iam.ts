import type { Template } from 'aws-cdk-lib/assertions';

/** As much of IAM as the roles of connectors use. */
export interface Request {
  readonly action: string;
  /** `table`, `table/index/kinds`, or `objects/<key>`. */
  readonly resource: string;
  readonly leadingKeys?: readonly string[];
}

interface Statement {
  readonly Effect: string;
  readonly Action: string | readonly string[];
  readonly Resource: unknown;
  readonly Condition?: { readonly [operator: string]: { readonly [key: string]: string | readonly string[] } };
}

/** Decides by the statements that the role of a connector has in the template. */
export const rightsOf = (template: Template, connector: string) => {
  const functions = Object.values(template.findResources('AWS::Lambda::Function'));
  const own = functions.find((one) => one.Properties.Environment.Variables.SLUICE_CONNECTOR === connector);
  if (own === undefined) throw new Error(`the template has no connector ${connector}`);
  const id = own.Properties.Role['Fn::GetAtt'][0];
  const role = template.findResources('AWS::IAM::Role')[id]!;
  const policies = Object.values(template.findResources('AWS::IAM::Policy')).filter((policy) =>
    policy.Properties.Roles.some((one: { Ref: string }) => one.Ref === id),
  );
  const documents = [
    ...role.Properties.Policies.map((policy: { PolicyDocument: unknown }) => policy.PolicyDocument),
    ...policies.map((policy) => policy.Properties.PolicyDocument),
  ] as { Statement: Statement[] }[];
  const statements = documents.flatMap(({ Statement }) => Statement);
  return {
    statements,
    allows: (request: Request): boolean => statements.some((statement) => allows(statement, request)),
  };
};

const allows = (statement: Statement, { action, resource, leadingKeys = [] }: Request): boolean => {
  const actions = [statement.Action].flat() as string[];
  const resources = [statement.Resource].flat().map(resourcePattern);
  return (
    statement.Effect === 'Allow' &&
    actions.some((pattern) => like(pattern, action)) &&
    resources.some((pattern) => like(pattern, resource)) &&
    Object.entries(statement.Condition ?? {}).every(([operator, keys]) => {
      if (operator !== 'ForAllValues:StringLike') throw new Error(`the test does not know ${operator}`);
      const patterns = [keys['dynamodb:LeadingKeys']!].flat() as string[];
      return leadingKeys.every((key) => patterns.some((pattern) => like(pattern, key)));
    })
  );
};

/** `*` is any text, `?` any one character, as IAM has it; both also match a slash. */
const like = (pattern: string, text: string): boolean => {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${source}$`, 's').test(text);
};

const resourcePattern = (value: unknown): string => {
  if (typeof value === 'string') return value;
  const [name, operand] = Object.entries(value as object)[0]!;
  if (name === 'Fn::Join') return (operand as [string, unknown[]])[1].map(resourcePattern).join('');
  const [id, attribute] = operand as [string, string];
  const kind = id.startsWith('PlatformTable') ? 'table' : id.startsWith('PlatformObjects') ? 'objects' : id;
  return attribute === 'StreamArn' ? `${kind}/stream` : kind;
};
