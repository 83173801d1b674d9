import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
  processorEntry,
  ...[...sourcePlugins, ...sinkPlugins].map(connectorEntry),
  ...direct,
];

it('makes one ESM file of each function, which starts and stays within its budget', async () => {
  const bundles = await bundle(entries, { cache: temporary() });
  expect(bundles.map(({ name }) => name)).toEqual(entries.map(({ name }) => name));
  for (const { name, directory, bytes } of bundles) {
    expect(readdirSync(directory)).toEqual(['index.mjs']);
    const { handler } = await import(pathToFileURL(join(directory, 'index.mjs')).href);
    expect(typeof handler, name).toBe('function');
    // cdk.md §4: a driver comes on top of 550 KB. Twice that is a barrel of drivers, or the CDK.
    expect(bytes, name).toBeLessThan(800 * 1024);
    expect(readFileSync(join(directory, 'index.mjs'), 'utf8'), name).not.toMatch(/aws-cdk|\blocales\/(de|fr|zh-CN)/);
  }
  const holdsPostgres = bundles.filter(({ directory }) =>
    readFileSync(join(directory, 'index.mjs'), 'utf8').includes('client_encoding'),
  );
  expect(holdsPostgres.map(({ name }) => name)).toEqual(['postgres-sink', 'direct-file-postgres']);
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
  await expect(bundle([entry], { cache })).rejects.toThrow(/can't bundle the functions test: .*Unexpected ";"/s);
});

it('answers at once to constructs', () => {
  const [first] = bundleSync([platformEntries.dispatcher]);
  expect(readdirSync(first!.directory)).toEqual(['index.mjs']);
  expect(bundleSync([platformEntries.dispatcher])).toEqual([first]);
});
