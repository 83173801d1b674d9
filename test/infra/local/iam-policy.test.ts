import { describe, expect, test } from 'vitest';
import { createDecide, parsePolicy } from '../../../infra/local/iam-policy.ts';

const table = 'arn:aws:dynamodb:us-east-1:000000000000:table/T';
const own = { 'ForAllValues:StringLike': { 'dynamodb:LeadingKeys': ['connector#shop', 'log#orders#*'] } };

const decide = (
  statements: Record<string, unknown>[],
  action: string,
  resource: string,
  context?: Record<string, string[]>,
) =>
  createDecide(
    parsePolicy({
      Statement: statements.map((statement) => ({
        Effect: 'Allow',
        ...('NotResource' in statement ? {} : { Resource: '*' }),
        ...statement,
      })),
    }),
  )({ action, resource, ...(context ? { context } : {}) });

const keys = (...values: string[]) => ({ 'dynamodb:LeadingKeys': values });

describe('a policy', () => {
  test.each<[name: string, statement: Record<string, unknown>, request: [string, string], expected: string]>([
    ['of an action', { Action: 'dynamodb:GetItem' }, ['dynamodb:GetItem', table], 'allowed'],
    ['of another', { Action: 'dynamodb:GetItem' }, ['dynamodb:GetItems', table], 'implicitDeny'],
    ['whatever its case', { Action: 'DynamoDB:getitem' }, ['dynamodb:GetItem', table], 'allowed'],
    ['with a wildcard', { Action: ['s3:x', 'dynamodb:*Item'] }, ['dynamodb:PutItem', table], 'allowed'],
    ['with one character open', { Action: 'dynamodb:?etItem' }, ['dynamodb:PutItem', table], 'implicitDeny'],
    ['of all but', { NotAction: 'dynamodb:Delete*' }, ['dynamodb:DeleteItem', table], 'implicitDeny'],
    ['of all but, and this is not it', { NotAction: 'dynamodb:Delete*' }, ['dynamodb:PutItem', table], 'allowed'],
    ['on the resource', { Action: '*', Resource: [table] }, ['dynamodb:GetItem', table], 'allowed'],
    [
      'on the table, not its index',
      { Action: '*', Resource: table },
      ['dynamodb:Query', `${table}/index/i`],
      'implicitDeny',
    ],
    [
      'on all indexes',
      { Action: '*', Resource: `${table}/index/*` },
      ['dynamodb:Query', `${table}/index/i`],
      'allowed',
    ],
    [
      'where a dot is a dot',
      { Action: '*', Resource: 'arn:aws:s3:::a.b/*' },
      ['s3:GetObject', 'arn:aws:s3:::aXb/c'],
      'implicitDeny',
    ],
    [
      'where a star matches slashes',
      { Action: '*', Resource: 'arn:aws:s3:::b/r*/x' },
      ['s3:GetObject', 'arn:aws:s3:::b/r1/y/x'],
      'allowed',
    ],
    ['on all but', { Action: '*', NotResource: `${table}*` }, ['dynamodb:GetItem', table], 'implicitDeny'],
  ])('%s', (_name, statement, [action, resource], expected) => {
    expect(decide([statement], action, resource)).toBe(expected);
  });

  test('denies whatever else allows', () => {
    const deny = { Effect: 'Deny', Action: 'dynamodb:DeleteItem' };
    expect(decide([{ Action: '*' }, deny], 'dynamodb:DeleteItem', table)).toBe('explicitDeny');
    expect(decide([{ Action: '*' }, deny], 'dynamodb:PutItem', table)).toBe('allowed');
  });
});

describe('a condition', () => {
  const put = (context?: Record<string, string[]>) =>
    decide([{ Action: 'dynamodb:*', Condition: own }], 'dynamodb:PutItem', table, context);

  test('on all leading keys holds where every one of them fits', () => {
    expect(put(keys('connector#shop'))).toBe('allowed');
    expect(put(keys('connector#shop', 'log#orders#0#3'))).toBe('allowed');
    expect(put(keys('connector#shop', 'connector#other'))).toBe('implicitDeny');
    for (const other of ['connector#shop2', 'connector#shop-a', 'connector#sho', 'log#orders2#0#0', 'log#orders'])
      expect(put(keys(other)), other).toBe('implicitDeny');
  });

  test('on all leading keys also holds where there is none, as on AWS: a Scan must not be granted so (F1)', () => {
    expect(put()).toBe('allowed');
  });

  test('on one value does not hold where there is none', () => {
    const listing = [{ Action: 's3:ListBucket', Condition: { StringLike: { 's3:prefix': 'in/*' } } }];
    const list = (context?: Record<string, string[]>) => decide(listing, 's3:ListBucket', 'arn:aws:s3:::b', context);
    expect(list({ 's3:prefix': ['in/a'] })).toBe('allowed');
    expect(list({ 's3:prefix': ['out/'] })).toBe('implicitDeny');
    expect(list()).toBe('implicitDeny');
  });

  test('of equality takes a star as it is', () => {
    const condition = { StringEquals: { 'S3:Prefix': ['in/*'] } };
    const list = (prefix: string) =>
      decide([{ Action: 's3:*', Condition: condition }], 's3:ListBucket', 'arn:aws:s3:::b', { 's3:prefix': [prefix] });
    expect(list('in/*')).toBe('allowed');
    expect(list('in/a')).toBe('implicitDeny');
  });

  test('must hold together with the others', () => {
    const condition = { ...own, StringEquals: { 'dynamodb:LeadingKeys': 'connector#shop' } };
    const of = (...leading: string[]) =>
      decide([{ Action: 'dynamodb:*', Condition: condition }], 'dynamodb:GetItem', table, keys(...leading));
    expect(of('connector#shop')).toBe('allowed');
    expect(of('log#orders#0#0')).toBe('implicitDeny');
  });
});

describe('what is not understood is refused, where it concerns what the host offers', () => {
  const parse = (statement: Record<string, unknown>) => () =>
    parsePolicy({ Statement: { Effect: 'Allow', Action: 'dynamodb:*', Resource: '*', ...statement } });

  test.each<[statement: Record<string, unknown>, message: string]>([
    [{ Condition: { DateLessThan: { 'aws:CurrentTime': 'x' } } }, 'does not know DateLessThan'],
    [{ Condition: { StringEquals: { 'aws:PrincipalTag/team': 'x' } } }, 'does not know the key aws:principaltag/team'],
    [{ Condition: { 'ForAnyValue:StringLike': { 'dynamodb:LeadingKeys': 'x' } } }, 'ForAnyValue:StringLike'],
    [{ Resource: `arn:aws:s3:::b/${'$'}{aws:username}/*`, Action: 's3:*' }, 'policy variables'],
    [{ Effect: 'Maybe' }, 'Effect'],
    [{ NotAction: 's3:*' }, 'either Action or NotAction'],
    [{ Resource: undefined }, 'either Resource or NotResource'],
  ])('%j', (statement, message) => {
    expect(parse(statement)).toThrow(message);
  });

  test('and not where it does not', () => {
    expect(parse({ Action: 'kms:Decrypt', Condition: { StringEquals: { 'kms:ViaService': 'x' } } })()).toEqual([]);
    expect(parse({ Action: ['kms:*', '*'], Condition: { StringEquals: { 'kms:ViaService': 'x' } } })).toThrow(
      'kms:via',
    );
  });
});
