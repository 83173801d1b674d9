import type * as z from 'zod';
import { ConnectError } from '../shared/connect/errors.ts';

/** One thing that is wrong with a pipeline, at the path of the key to change. */
export interface Problem {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

export const describeProblem = ({ path, message }: Problem): string =>
  path.length === 0 ? message : `${path.map(String).join('.')}: ${message}`;

/** Every issue of a zod error, one per unknown key. Values are not shown: some are secrets. */
export const problemsOf = (error: z.ZodError, at: readonly PropertyKey[] = []): readonly Problem[] =>
  error.issues.flatMap((issue): readonly Problem[] => {
    const path = [...at, ...issue.path];
    if (issue.code !== 'unrecognized_keys') return [{ path, message: lowerFirst(issue.message) }];
    return issue.keys.map((key) => ({ path: [...path, key], message: `unrecognized key "${key}"` }));
  });

const lowerFirst = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);

/** @throws CONFIG_INVALID with every problem at once */
export const requireNoProblems = (where: string, problems: readonly Problem[]): void => {
  if (problems.length === 0) return;
  throw refused(`${where}: ${problems.map(describeProblem).join('; ')}`);
};

/** `    at <function> (<URL>)`: in Node itself, or in one of our rooms. */
const isInternal = (line: string): boolean =>
  /^ {4}at /.test(line) && (line.includes('node:') || ours.some((room) => line.includes(room)));
const ours = ['../infra/', '../shared/', '../functions/'].map((room) => new URL(room, import.meta.url).href);

/** What the writer of an app has to change. Node prints its stack: of it only the lines of that app are left. */
export const refused = (message: string, cause?: unknown): ConnectError => {
  const error = new ConnectError('CONFIG_INVALID', message, cause === undefined ? {} : { cause });
  error.stack = error
    .stack!.split('\n')
    .filter((line) => !isInternal(line))
    .join('\n');
  return error;
};
