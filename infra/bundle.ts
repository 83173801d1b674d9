import { spawnSync } from 'node:child_process';
import { hash, randomUUID } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { ConnectError } from '../shared/connect/errors.ts';
import type { BundleEntry } from './bundle-entries.ts';
import { compile, isBuilt, recipe, root } from './compile.ts';

export interface Bundle {
  readonly name: string;
  /** Holds `index.mjs`, and nothing else. */
  readonly directory: string;
  readonly bytes: number;
  /** The files that went into it, from the repository's root; none is known of a bundle that the package brings along. */
  readonly files: readonly string[];
}

const defaultCache = join(isBuilt ? process.cwd() : root, '.sluice', 'bundles');
const dayMs = 24 * 3_600_000;
/** What nothing has used for so long is removed from the cache. */
const keepMs = 30 * dayMs;

/** What a bundle was made of, kept beside it. */
interface Recipe extends Omit<Bundle, 'files'> {
  readonly key: string;
  /** Content, not time: a checkout or an unpacked archive has any time at all. */
  readonly hashes: { readonly [file: string]: string };
}

/**
 * Builds each entry into a directory of its own, all in one go. What is in the cache and whose files are unchanged is not built again.
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
  const find = finder(defaultCache);
  const missing = entries.filter((entry) => find(entry) === undefined);
  if (missing.length > 0) buildApart(missing);
  const found = missing.length > 0 ? finder(defaultCache) : find;
  return entries.map((entry) => found(entry)!);
};

const buildApart = (entries: readonly BundleEntry[]): void => {
  const script = `const { bundle } = await import(${JSON.stringify(import.meta.url)});
try { await bundle(${JSON.stringify(entries)}); }
catch ({ message }) { process.stderr.write(message); process.exitCode = 1; }`;
  const { status, stderr, error } = spawnSync(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'inherit', 'pipe'],
    encoding: 'utf8',
  });
  if (status !== 0) throw new ConnectError('CONFIG_INVALID', error?.message ?? stderr);
};

/** Looks an entry up. Most files are shared, so each is read once. */
const finder = (cache: string) => {
  const hashes = new Map<string, string | undefined>();
  const isUnchanged = ([file, expected]: readonly [string, string]): boolean => {
    if (!hashes.has(file)) hashes.set(file, hashOf(file));
    return hashes.get(file) === expected;
  };
  return (entry: BundleEntry): Bundle | undefined => {
    const built = shipped(entry);
    if (built !== undefined) return built;
    const path = join(cache, `${entry.name}.json`);
    const found = readRecipe(path);
    if (found?.key !== keyOf(entry) || !existsSync(found.directory)) return undefined;
    const { key: _, hashes: expected, ...rest } = found;
    if (!Object.entries(expected).every(isUnchanged)) return undefined;
    for (const used of [path, found.directory]) touch(used);
    return { ...rest, files: Object.keys(expected) };
  };
};

const shipped = ({ name }: BundleEntry): Bundle | undefined => {
  const directory = join(root, 'lambda', name);
  if (!isBuilt || !existsSync(directory)) return undefined;
  return { name, directory, bytes: statSync(join(directory, 'index.mjs')).size, files: [] };
};

const keyOf = (entry: BundleEntry): string => hash('sha256', JSON.stringify([recipe, entry]));

const readRecipe = (path: string): Recipe | undefined =>
  existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Recipe) : undefined;

const hashOf = (file: string): string | undefined => {
  const path = join(root, file);
  return existsSync(path) ? hash('sha1', readFileSync(path)) : undefined;
};

const make = async (entries: readonly BundleEntry[], cache: string): Promise<readonly Bundle[]> => {
  const startedMs = Date.now();
  const compiled = await compile(entries);
  const made = compiled.map(({ entry, code, files }) => {
    const { name } = entry;
    const directory = join(cache, hash('sha256', code).slice(0, 16));
    placeDirectory(directory, code);
    const found = { name, directory, bytes: code.length };
    // A file that changed while it was read gets a hash that never fits: the next build reads it again.
    const hashes = files.map((file) => [
      file,
      statSync(join(root, file)).mtimeMs < startedMs ? hashOf(file)! : 'changed',
    ]);
    const written: Recipe = { ...found, key: keyOf(entry), hashes: Object.fromEntries(hashes) };
    placeFile(join(cache, `${name}.json`), JSON.stringify(written));
    return { ...found, files };
  });
  removeStale(cache, Date.now() - keepMs);
  return made;
};

/** What is used stays in the cache. Once a day will do. */
const touch = (path: string): void => {
  const now = new Date();
  if (now.getTime() - statSync(path).mtimeMs > dayMs) utimesSync(path, now, now);
};

const removeStale = (cache: string, beforeMs: number): void => {
  for (const name of readdirSync(cache)) {
    const path = join(cache, name);
    const modifiedMs = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
    if (modifiedMs !== undefined && modifiedMs < beforeMs) rmSync(path, { recursive: true, force: true });
  }
};

/** Whole or not at all: two apps may be synthesized at once. */
const placeFile = (path: string, content: string): void => {
  const partial = `${path}.${randomUUID()}`;
  writeFileSync(partial, content);
  renameSync(partial, path);
};

const placeDirectory = (directory: string, text: Uint8Array): void => {
  if (existsSync(directory)) {
    touch(directory);
    return;
  }
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
