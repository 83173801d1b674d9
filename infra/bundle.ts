import { execFileSync } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type BuildOptions, build, type Metafile, type Plugin, version } from 'esbuild';
import { ConnectError } from '../shared/connect/errors.ts';
import type { BundleEntry } from './bundle-entries.ts';

export interface Bundle {
  readonly name: string;
  /** Holds `index.mjs`, and nothing else. */
  readonly directory: string;
  readonly bytes: number;
  /** Files that went into it. */
  readonly modules: number;
}

/** The repository; or, in the package that is installed, its `dist`. */
const root = fileURLToPath(new URL('..', import.meta.url));
const isBuilt = import.meta.url.endsWith('.js');
const defaultCache = isBuilt ? join(process.cwd(), '.sluice', 'bundles') : join(root, '.sluice', 'bundles');

const options = {
  absWorkingDir: root,
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node22',
  minify: true,
  // A fifth smaller and quicker to start than with the CommonJS builds that esbuild prefers for node.
  mainFields: ['module', 'main'],
  // For dependencies that are CommonJS.
  banner: {
    js: "import{createRequire as __createRequire}from'node:module';const require=__createRequire(import.meta.url);",
  },
  // pg asks for it and goes on without.
  external: ['pg-native'],
  outExtension: { '.js': '.mjs' },
  metafile: true,
  write: false,
  logLevel: 'silent',
} as const satisfies BuildOptions;

/** Whoever imports `{ z }` from zod gets all its languages with it, 360 KB: leave English. */
const englishZod: Plugin = {
  name: 'english-zod',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /locales\/index\.c?js$/ }, ({ path, resolveDir }) =>
      resolveDir.includes(`${join('node_modules', 'zod')}`)
        ? { path: join(resolveDir, path), namespace: 'english-zod' }
        : undefined,
    );
    onLoad({ filter: /.*/, namespace: 'english-zod' }, ({ path }) => ({
      contents: "export { default as en } from './en.js';",
      resolveDir: dirname(path),
    }));
  },
};

type Stamp = readonly [mtimeMs: number, size: number];

/** What a build was made of, kept beside the bundles. */
interface Recipe extends Bundle {
  readonly key: string;
  readonly inputs: { readonly [path: string]: Stamp };
}

/**
 * Builds each entry into a directory of its own, all in one go. What is in the cache and whose inputs are unchanged is not built again.
 * An installed package brings the bundles of its own connectors along.
 */
export const bundle = async (
  entries: readonly BundleEntry[],
  { cache = defaultCache }: { readonly cache?: string } = {},
): Promise<readonly Bundle[]> => {
  const find = finder(cache);
  const missing = entries.filter((entry) => find(entry) === undefined);
  const made = missing.length === 0 ? [] : await make(missing, cache);
  return entries.map((entry) => made.find(({ name }) => name === entry.name) ?? find(entry)!);
};

/** The same for constructs, which can't wait: what must be built is built in a process of its own. */
export const bundleSync = (entries: readonly BundleEntry[]): readonly Bundle[] => {
  const missing = entries.filter((entry) => finder(defaultCache)(entry) === undefined);
  if (missing.length > 0) {
    const script = `import { bundle } from ${JSON.stringify(import.meta.url)}; await bundle(${JSON.stringify(missing)});`;
    execFileSync(process.execPath, ['--input-type=module', '--eval', script], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
  }
  return entries.map((entry) => finder(defaultCache)(entry)!);
};

/** Looks an entry up. Most inputs are shared, so each is looked at once. */
const finder = (cache: string) => {
  const stamps = new Map<string, string>();
  const isUnchanged = ([path, stamp]: readonly [string, Stamp]): boolean => {
    if (!stamps.has(path)) stamps.set(path, String(stampOf(path)));
    return stamps.get(path) === String(stamp);
  };
  return (entry: BundleEntry): Bundle | undefined => {
    const built = shipped(entry);
    if (built !== undefined) return built;
    const recipe = readRecipe(join(cache, `${entry.name}.json`));
    if (recipe?.key !== keyOf(entry) || !existsSync(recipe.directory)) return undefined;
    const { key, inputs, ...found } = recipe;
    return Object.entries(inputs).every(isUnchanged) ? found : undefined;
  };
};

const shipped = (entry: BundleEntry): Bundle | undefined => {
  const directory = join(root, 'lambda', entry.name);
  if (!isBuilt || !existsSync(directory)) return undefined;
  return { name: entry.name, directory, bytes: statSync(join(directory, 'index.mjs')).size, modules: 0 };
};

const keyOf = (entry: BundleEntry): string =>
  createHash('sha256')
    .update(JSON.stringify([version, options, entry]))
    .digest('hex');

const readRecipe = (path: string): Recipe | undefined =>
  existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Recipe) : undefined;

const stampOf = (path: string): Stamp | undefined => {
  const stats = statSync(join(root, path), { throwIfNoEntry: false });
  return stats && [stats.mtimeMs, stats.size];
};

const make = async (entries: readonly BundleEntry[], cache: string): Promise<readonly Bundle[]> => {
  const startedMs = Date.now();
  const { outputFiles, metafile } = await compile(entries);
  return entries.map((entry) => {
    const output = outputFiles.find(({ path }) => basename(path) === `${entry.name}.mjs`)!.contents;
    const files = inputsOf(metafile, entry).filter((path) => existsSync(join(root, path)));
    // A file that changed while it was read gets a stamp that never fits: the next build reads it again.
    const stamps = files.map((path) => {
      const [mtimeMs, size] = stampOf(path)!;
      return [path, [mtimeMs < startedMs ? mtimeMs : 0, size]] as const;
    });
    const directory = join(cache, createHash('sha256').update(output).digest('hex').slice(0, 16));
    placeDirectory(directory, output);
    const found: Bundle = { name: entry.name, directory, bytes: output.length, modules: files.length };
    const recipe: Recipe = { ...found, key: keyOf(entry), inputs: Object.fromEntries(stamps) };
    placeFile(join(cache, `${entry.name}.json`), JSON.stringify(recipe));
    return found;
  });
};

/** All that an entry imports, what was shaken off too: a change can bring it back. */
const inputsOf = ({ inputs, outputs }: Metafile, entry: BundleEntry): readonly string[] => {
  const [, { entryPoint }] = Object.entries(outputs).find(([path]) => basename(path) === `${entry.name}.mjs`)!;
  const seen = new Set([entryPoint!]);
  for (const path of seen) for (const one of inputs[path]?.imports ?? []) if (!one.external) seen.add(one.path);
  return [...seen];
};

/** One build for all: what they share is parsed once. */
const compile = async (entries: readonly BundleEntry[]) => {
  const points = entries.map((entry) => [
    entry.name,
    'file' in entry ? compiledPath(entry.file) : `text:${entry.name}`,
  ]);
  try {
    const plugins = [englishZod, textEntries(entries)];
    return await build({ ...options, entryPoints: Object.fromEntries(points), outdir: 'bundles', plugins });
  } catch (cause) {
    const names = entries.map(({ name }) => name).join(', ');
    throw new ConnectError('CONFIG_INVALID', `can't bundle the functions ${names}: ${(cause as Error).message}`, {
      cause,
    });
  }
};

/** Entries that are given as text stand in the root directory, for their imports. */
const textEntries = (entries: readonly BundleEntry[]): Plugin => ({
  name: 'text-entries',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^text:/ }, ({ path }) => ({ path: path.slice('text:'.length), namespace: 'text' }));
    onLoad({ filter: /.*/, namespace: 'text' }, ({ path }) => {
      const entry = entries.find(({ name }) => name === path);
      return entry !== undefined && 'text' in entry
        ? { contents: compiledPath(entry.text), resolveDir: root, loader: 'ts' }
        : undefined;
    });
  },
});

/** The installed package holds what tsc made of these files. */
const compiledPath = (text: string): string => (isBuilt ? text.replaceAll(/\.ts\b/g, '.js') : text);

/** Whole or not at all: two apps may be synthesized at once. */
const placeFile = (path: string, content: string): void => {
  const partial = `${path}.${randomUUID()}`;
  writeFileSync(partial, content);
  renameSync(partial, path);
};

const placeDirectory = (directory: string, text: Uint8Array): void => {
  if (existsSync(directory)) return;
  const partial = join(dirname(directory), `.${basename(directory)}.${randomUUID()}`);
  mkdirSync(partial, { recursive: true });
  writeFileSync(join(partial, 'index.mjs'), text);
  try {
    renameSync(partial, directory);
  } catch (thrown) {
    rmSync(partial, { recursive: true });
    // Somebody else placed the same bytes first.
    if (!existsSync(directory)) throw thrown;
  }
};
