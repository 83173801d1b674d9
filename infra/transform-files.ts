import { resolve } from 'node:path';
import * as z from 'zod';
import { type ConnectError, isCode } from '../shared/connect/errors.ts';
import { shownPath } from './compile.ts';
import type { Problem } from './problems.ts';
import { loadDefaultExport } from './user-file.ts';

const Transform = z.looseObject({
  name: z.string(),
  stage: z.string(),
  apply: z.custom((value) => typeof value === 'function'),
});
const Transforms = z.union([Transform, z.array(Transform).min(1)]);

/** Modules of transforms that come with Sluice, by the name that stands in place of a file's. */
const builtIns: Readonly<Record<string, string>> = {
  unwrap: 'shared/transforms/unwrap.ts',
  'to-canal-json': 'shared/transforms/to-canal-json.ts',
  'from-canal-json': 'shared/transforms/from-canal-json.ts',
};

const isBuiltIn = (name: string): boolean => Object.hasOwn(builtIns, name);

/** As it is named in a pipeline that stands in `directory`: by its path, or by its name alone. */
export const transformIn = (directory: string, name: string): string =>
  isBuiltIn(name) ? name : resolve(directory, name);

/** What a bundle imports: a path, or a module of Sluice. */
export const transformModule = (name: string): string => (isBuiltIn(name) ? builtIns[name]! : resolve(name));

/** As it is told to people. */
export const transformTitle = (name: string): string => (isBuiltIn(name) ? name : shownPath(resolve(name)));

/** What is wrong with the files of a connector's transforms: each is loaded, as its function will load it. */
export const transformProblems = (files: readonly string[] = []): readonly Problem[] =>
  files.flatMap((file, index) => {
    const message = isBuiltIn(file) ? undefined : transformProblem(resolve(file));
    return message === undefined ? [] : [{ path: ['transforms', index], message }];
  });

const transformProblem = (path: string): string | undefined => {
  try {
    return Transforms.safeParse(loadDefaultExport(path)).success
      ? undefined
      : `the default export of ${shownPath(path)} is no transform, and no list of them; write \`export default recordTransform('name', (record) => …)\``;
  } catch (thrown) {
    if (!isCode(thrown, 'CONFIG_INVALID')) throw thrown;
    return (thrown as ConnectError).message;
  }
};
