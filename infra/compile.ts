import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type BuildFailure, type BuildOptions, build, type Metafile, type Plugin, version } from 'esbuild';
import { ConnectError } from '../shared/connect/errors.ts';
import type { BundleEntry } from './bundle-entries.ts';

/** The repository; or, in the package that is installed, its `dist`. */
export const root = fileURLToPath(new URL('..', import.meta.url));
export const isBuilt = import.meta.url.endsWith('.js');

/** What a file of the user's own imports of Sluice is the Sluice that compiles or loads it, wherever the file stands. */
export const ownModules = { 'sluice/connect': join(root, 'shared/connect') } as const;

/** The URL of the module of Sluice that a program imports: `sluice`, `sluice/connect/schema`. */
export const ownModule = (specifier: string): string | undefined => {
  const path = specifier === 'sluice' ? 'infra/index' : specifier.replace(/^sluice\/(?=connect\/)/, 'shared/');
  if (path === specifier) return undefined;
  return pathToFileURL(join(root, `${path}${isBuilt ? '.js' : '.ts'}`)).href;
};

const options = {
  absWorkingDir: root,
  bundle: true,
  // An ES module around one function. Written as a module throughout, its imports would load all that Node has behind `node:http`
  // (its fetch and WebSocket too) at each start: a fifth of it.
  format: 'iife',
  globalName: '__bundle',
  banner: {
    js: "import{createRequire as __createRequire}from'node:module';const __url=import.meta.url,require=__createRequire(__url);",
  },
  footer: { js: 'export const handler=__bundle.handler;' },
  define: { 'import.meta.url': '__url' },
  platform: 'node',
  target: 'node22',
  minify: true,
  // A fifth smaller and quicker to start than with the CommonJS builds that esbuild prefers for node.
  mainFields: ['module', 'main'],
  alias: {
    ...ownModules,
    '@aws-sdk/credential-provider-node': join(root, 'shared/lambda/credentials'),
    // Half a megabyte of character tables, which zongji and mysql2 each bring.
    'iconv-lite': dirname(createRequire(import.meta.resolve('mysql2')).resolve('iconv-lite/package.json')),
  },
  // pg asks for it and goes on without.
  external: ['pg-native'],
  outExtension: { '.js': '.mjs' },
  metafile: true,
  write: false,
  logLevel: 'silent',
} as const satisfies BuildOptions;

/** What decides, beside an entry and its files, what is made of them. */
export const recipe = [version, readFileSync(fileURLToPath(import.meta.url), 'utf8')];

/** zongji knows the events of a binlog by the names of their classes, which a minifier shortens. */
const namedEvents: Plugin = {
  name: 'named-events',
  setup({ onLoad }) {
    onLoad({ filter: /zongji[\\/]lib[\\/](binlog|rows)_event\.js$/ }, ({ path }) => ({
      contents: readFileSync(path, 'utf8').replace(/^class (\w+) .*\{$/gm, "$&\n  static name = '$1';"),
    }));
  },
};

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

/**
 * The SDK imports event streams when one is used. In one file such an import makes all that they share with the rest, most of
 * the SDK, modules that are parsed twice and started one by one, for each start of a function: import them like the rest.
 */
const plainEventStreams: Plugin = {
  name: 'plain-event-streams',
  setup({ onLoad }) {
    const dynamic = /await import\((["']@smithy\/core\/event-streams["'])\)/;
    onLoad({ filter: /@smithy[\\/]core[\\/]dist-es[\\/].*HttpProtocol\.js$/ }, ({ path }) => {
      const text = readFileSync(path, 'utf8');
      const [, module] = dynamic.exec(text) ?? [];
      if (module === undefined) return undefined;
      return { contents: `import * as eventStreams from ${module};\n${text.replace(dynamic, 'eventStreams')}` };
    });
  },
};

export interface Compiled {
  readonly entry: BundleEntry;
  readonly code: Uint8Array;
  /** The files that it was made of, from `root`. */
  readonly files: readonly string[];
}

/** One build for all: what they share is parsed once. */
export const compile = async (entries: readonly BundleEntry[]): Promise<readonly Compiled[]> => {
  const points = entries.map((entry) => [entry.name, 'file' in entry ? builtPath(entry.file) : `text:${entry.name}`]);
  const { outputFiles, metafile } = await build({
    ...options,
    entryPoints: Object.fromEntries(points),
    outdir: 'bundles',
    plugins: [englishZod, namedEvents, plainEventStreams, textEntries(entries)],
  }).catch((cause: unknown) => {
    const names = entries.map(({ name }) => name).join(', ');
    throw new ConnectError('CONFIG_INVALID', `can't bundle ${names}: ${compileErrors(cause, root)}`, { cause });
  });
  return entries.map((entry) => {
    const isOf = (path: string): boolean => basename(path) === `${entry.name}.mjs`;
    const code = outputFiles.find(({ path }) => isOf(path))!.contents;
    return { entry, code, files: filesOf(metafile, isOf) };
  });
};

/** All that an entry imports, what was shaken off too: a change can bring it back. */
const filesOf = ({ inputs, outputs }: Metafile, isOf: (path: string) => boolean): readonly string[] => {
  const [, { entryPoint }] = Object.entries(outputs).find(([path]) => isOf(path))!;
  const seen = new Set([entryPoint!]);
  for (const path of seen) for (const one of inputs[path]?.imports ?? []) if (!one.external) seen.add(one.path);
  return [...seen].filter((path) => !/^(text|english-zod):/.test(path));
};

/** Entries that are given as text stand in the root directory, for their imports. */
const textEntries = (entries: readonly BundleEntry[]): Plugin => ({
  name: 'text-entries',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^text:/ }, ({ path }) => ({ path: path.slice('text:'.length), namespace: 'text' }));
    onLoad({ filter: /.*/, namespace: 'text' }, ({ path }) => {
      const entry = entries.find(({ name }) => name === path);
      return entry !== undefined && 'text' in entry
        ? { contents: entry.text, resolveDir: root, loader: 'ts' }
        : undefined;
    });
  },
});

/** The installed package holds what tsc made of a file. */
const builtPath = (file: string): string => (isBuilt ? file.replace(/\.ts$/, '.js') : file);

/** Every error of a build with its place, by the path from here: no stack, nothing of esbuild's own. */
export const compileErrors = (thrown: unknown, from: string): string => {
  const { errors = [], message } = thrown as Partial<BuildFailure>;
  if (errors.length === 0) return String(message);
  const lines = errors.map(({ text, location }) => {
    if (location === null) return text;
    const { file, line, column } = location;
    return `${shownPath(resolve(from, file))}:${line}:${column + 1}: ${text}`;
  });
  return lines.join('; ');
};

/** A path as its reader knows it: from here, or whole where it is elsewhere. */
export const shownPath = (path: string): string => {
  const fromHere = relative('', path);
  return fromHere.startsWith('..') ? path : fromHere;
};
