import { describe, expect, test } from 'vitest';
import { compileEventFilter } from '../../../infra/local/event-filter.ts';

const event = {
  eventName: 'INSERT',
  count: 5,
  flag: true,
  nothing: null,
  tags: ['red', 'blue'],
  dynamodb: { Keys: { pk: { S: 'topic#orders' } }, NewImage: { rows: { N: '12' } } },
};

describe('event filters', () => {
  test.each<[name: string, pattern: unknown, matches: boolean]>([
    ['one of several values', { eventName: ['MODIFY', 'INSERT'] }, true],
    ['none of the values', { eventName: ['REMOVE'] }, false],
    ['every key', { eventName: ['INSERT'], count: [6] }, false],
    ['booleans and null', { flag: [true], nothing: [null] }, true],
    ['text is not a number', { count: ['5'] }, false],
    ['a nested prefix', { dynamodb: { Keys: { pk: { S: [{ prefix: 'topic#' }] } } } }, true],
    ['another prefix', { dynamodb: { Keys: { pk: { S: [{ prefix: 'task#' }] } } } }, false],
    ['a suffix', { dynamodb: { Keys: { pk: { S: [{ suffix: 'orders' }] } } } }, true],
    ['any case', { eventName: [{ 'equals-ignore-case': 'insert' }] }, true],
    ['an element of an array', { tags: ['blue'] }, true],
    ['no element of an array', { tags: ['green'] }, false],
    ['exists', { dynamodb: { NewImage: { rows: { N: [{ exists: true }] } } } }, true],
    ['exists on a branch', { dynamodb: [{ exists: true }] }, false],
    ['does not exist', { dynamodb: { OldImage: { rows: [{ exists: false }] } } }, true],
    ['anything but a value', { eventName: [{ 'anything-but': 'REMOVE' }] }, true],
    ['anything but a list', { eventName: [{ 'anything-but': ['INSERT', 'REMOVE'] }] }, false],
    ['anything but a prefix', { eventName: [{ 'anything-but': { prefix: 'INS' } }] }, false],
    ['anything but, of what is missing', { missing: [{ 'anything-but': 'x' }] }, false],
    ['a range', { count: [{ numeric: ['>', 0, '<=', 5] }] }, true],
    ['outside of a range', { count: [{ numeric: ['>', 5] }] }, false],
    ['numbers of DynamoDB are text', { dynamodb: { NewImage: { rows: { N: [{ numeric: ['=', 12] }] } } } }, false],
    ['$or', { $or: [{ eventName: ['REMOVE'] }, { count: [5] }] }, true],
  ])('%s', (_name, pattern, expected) => {
    expect(compileEventFilter([JSON.stringify(pattern)])(event)).toBe(expected);
  });

  test('several filters are alternatives, none lets all through', () => {
    const patterns = [{ eventName: ['REMOVE'] }, { count: [5] }].map((each) => JSON.stringify(each));
    expect(compileEventFilter(patterns)(event)).toBe(true);
    expect(compileEventFilter([])(event)).toBe(true);
  });

  test.each([
    ['{', /is not JSON/],
    ['[]', /is not an object/],
    ['{"eventName":"INSERT"}', /eventName must be an array, as in \["INSERT"\]/],
    ['{"eventName":[{"wildcard":"I*"}]}', /eventName uses wildcard; known are/],
    ['{"count":[{"numeric":["~",1]}]}', /numeric of count must be pairs/],
  ])('%s is refused', (pattern, message) => {
    expect(() => compileEventFilter([pattern])).toThrow(message);
  });
});
