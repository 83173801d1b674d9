/**
 * Lambda's event filtering for event source mappings: a pattern is an object whose leaves are arrays of alternatives. Pattern keys are
 * joined by AND, alternatives and several filters by OR. As on AWS, numeric comparison sees JSON numbers only: DynamoDB's `{"N": "1"}` is text.
 */
export type EventFilter = (event: unknown) => boolean;

type Pattern = { [key: string]: Pattern | Alternative[] };
type Alternative = string | number | boolean | null | Record<string, unknown>;

/** @throws where a pattern is not one that the documentation describes. */
export function compileEventFilter(patterns: readonly string[]): EventFilter {
  const filters = patterns.map((text) => {
    let pattern: unknown;
    try {
      pattern = JSON.parse(text);
    } catch (cause) {
      throw new Error(`filter pattern ${text} is not JSON`, { cause });
    }
    if (!isObject(pattern)) throw new Error(`filter pattern ${text} is not an object`);
    requireValid(pattern as Pattern, text);
    return pattern as Pattern;
  });
  return filters.length === 0 ? () => true : (event) => filters.some((pattern) => matches(pattern, event));
}

function matches(pattern: Pattern, event: unknown): boolean {
  return Object.entries(pattern).every(([key, expected]) => {
    if (key === '$or') return (expected as Pattern[]).some((each) => matches(each, event));
    const value = isObject(event) ? event[key] : undefined;
    if (Array.isArray(expected)) return expected.some((alternative) => leafMatches(alternative, value));
    return Array.isArray(value) ? value.some((each) => matches(expected, each)) : matches(expected, value);
  });
}

function leafMatches(alternative: Alternative, value: unknown): boolean {
  if (isObject(alternative) && 'exists' in alternative) {
    // Only leaves exist: a nested object is not one.
    const exists = value !== undefined && !isObject(value);
    return exists === alternative.exists;
  }
  if (value === undefined) return false;
  return Array.isArray(value)
    ? value.some((each) => valueMatches(alternative, each))
    : valueMatches(alternative, value);
}

function valueMatches(alternative: Alternative, value: unknown): boolean {
  if (!isObject(alternative)) return alternative === value;
  const [operator, operand] = Object.entries(alternative)[0]!;
  switch (operator) {
    case 'prefix':
      return typeof value === 'string' && value.startsWith(String(operand));
    case 'suffix':
      return typeof value === 'string' && value.endsWith(String(operand));
    case 'equals-ignore-case':
      return typeof value === 'string' && value.toLowerCase() === String(operand).toLowerCase();
    case 'numeric':
      return typeof value === 'number' && compare(value, operand as (string | number)[]);
    case 'anything-but':
      return anythingBut(operand, value);
    default:
      return false;
  }
}

function anythingBut(operand: unknown, value: unknown): boolean {
  if (isObject(value)) return false;
  if (isObject(operand)) return !valueMatches(operand, value);
  return ![operand].flat().includes(value);
}

function compare(value: number, comparisons: (string | number)[]): boolean {
  for (let index = 0; index + 1 < comparisons.length; index += 2) {
    const limit = Number(comparisons[index + 1]);
    const holds = COMPARISONS[String(comparisons[index])]!(value, limit);
    if (!holds) return false;
  }
  return true;
}

const COMPARISONS: Record<string, (value: number, limit: number) => boolean> = {
  '=': (value, limit) => value === limit,
  '<': (value, limit) => value < limit,
  '<=': (value, limit) => value <= limit,
  '>': (value, limit) => value > limit,
  '>=': (value, limit) => value >= limit,
};

const OPERATORS = ['prefix', 'suffix', 'equals-ignore-case', 'numeric', 'anything-but', 'exists'];

/** An operator that is silently not understood would drop every event, or none. */
function requireValid(pattern: Pattern, text: string): void {
  for (const [key, expected] of Object.entries(pattern)) {
    if (key === '$or') {
      for (const each of expected as Pattern[]) requireValid(each, text);
    } else if (Array.isArray(expected)) {
      for (const alternative of expected) requireValidLeaf(alternative, key, text);
    } else if (isObject(expected)) {
      requireValid(expected, text);
    } else {
      throw new Error(`filter pattern ${text}: the value of ${key} must be an array, as in ["${String(expected)}"]`);
    }
  }
}

function requireValidLeaf(alternative: Alternative, key: string, text: string): void {
  if (!isObject(alternative)) return;
  const [operator, operand] = Object.entries(alternative)[0] ?? [];
  if (operator === undefined || !OPERATORS.includes(operator)) {
    throw new Error(`filter pattern ${text}: ${key} uses ${operator}; known are ${OPERATORS.join(', ')}`);
  }
  if (operator !== 'numeric') return;
  const comparisons = Array.isArray(operand) ? operand : [];
  const valid =
    comparisons.length > 0 &&
    comparisons.length % 2 === 0 &&
    comparisons.every((each, index) =>
      index % 2 === 0 ? Object.hasOwn(COMPARISONS, String(each)) : typeof each === 'number',
    );
  if (!valid) throw new Error(`filter pattern ${text}: numeric of ${key} must be pairs as in [">", 0, "<=", 5]`);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
