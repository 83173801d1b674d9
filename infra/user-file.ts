import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { compileFunction } from 'node:vm';
import { type BuildResult, buildSync } from 'esbuild';
import { compileErrors, ownModules, shownPath } from './compile.ts';
import { refused } from './problems.ts';

/**
 * The default export of a file of the user's own, run here and now: constructs can't wait. It is compiled by the compiler of its
 * bundle, and so what it may say in TypeScript is the same; its packages are those beside it.
 *
 * @param path absolute
 * @throws CONFIG_INVALID with every error and its place
 */
export const loadDefaultExport = (path: string): unknown => {
  const file = shownPath(path);
  if (!existsSync(path)) throw refused(`there is no file ${file}`);
  const { outputFiles, metafile } = compileHere(path);
  for (const { path: imported } of Object.values(metafile.inputs).flatMap(({ imports }) => imports))
    if (/^(sluice|aws-cdk-lib|constructs)($|\/)/.test(imported))
      throw refused(
        `${file} imports ${imported}, which describes an app and is not there in a function; import from sluice/connect/…`,
      );
  const module: { exports: { default?: unknown } } = { exports: {} };
  try {
    const run = compileFunction(outputFiles[0]!.text, ['module', 'exports', 'require'], { filename: path });
    run(module, module.exports, createRequire(path));
  } catch (cause) {
    // Node appends the files that asked for a missing module.
    const [message] = String((cause as Error).message).split('\nRequire stack');
    throw refused(`${file} can't be loaded: ${message}`, cause);
  }
  return module.exports.default;
};

/** As CommonJS, which runs at once; what awaits at its top level can't. */
const compileHere = (path: string): BuildResult<{ write: false; metafile: true }> => {
  try {
    return buildSync({
      entryPoints: [path],
      bundle: true,
      format: 'cjs',
      platform: 'node',
      target: 'node22',
      packages: 'external',
      alias: ownModules,
      metafile: true,
      write: false,
      logLevel: 'silent',
    });
  } catch (cause) {
    throw refused(compileErrors(cause, ''), cause);
  }
};
