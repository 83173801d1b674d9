import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeSource } from '../kit/describe-source.ts';

const root = resolve(import.meta.dirname, '../..');

/** The page's files, by the path that it gives them. */
const filesOf = (page: string): ReadonlyMap<string, string> =>
  new Map([...page.matchAll(/^```ts file=(\S+)\n(.*?)^```/gms)].map((match) => [match[1]!, match[2]!]));

const items = Array.from({ length: 12 }, (_, i) => ({ id: i * 3 + 1, name: `item ${i}` }));

/** The API that the page's connector reads. */
const pagesServer = async () => {
  const server = createServer((request, response) => {
    const query = new URL(request.url!, 'http://localhost').searchParams;
    const page = items.filter(({ id }) => id > Number(query.get('after'))).slice(0, Number(query.get('limit')));
    response.setHeader('content-type', 'application/json').end(JSON.stringify(page));
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  const close = async () => {
    server.closeAllConnections();
    await new Promise((closed) => server.close(closed));
  };
  return { url: `http://127.0.0.1:${port}/items`, items, close };
};

const page = await readFile(join(root, 'docs/writing-a-connector.md'), 'utf8');
const files = filesOf(page);
// A copy of the project's shape, in which the page's paths are true.
const copy = await mkdtemp(join(tmpdir(), 'sluice-docs-'));

beforeAll(async () => {
  for (const name of ['shared', 'node_modules', 'package.json', 'tsconfig.json'])
    await symlink(join(root, name), join(copy, name));
  await mkdir(join(copy, 'test'));
  await symlink(join(root, 'test/kit'), join(copy, 'test/kit'));
  const server = `export declare const startPages: (items: readonly { id: number; name: string }[]) => Promise<{ url: string; items: readonly { id: number; name: string }[]; close: () => Promise<void> }>;\n`;
  for (const [path, text] of [...files, ['test/functions/pages/pages-server.ts', server] as const]) {
    await mkdir(dirname(join(copy, path)), { recursive: true });
    await writeFile(join(copy, path), text);
  }
});

afterAll(() => rm(copy, { recursive: true, force: true }));

describe('the page on writing a connector', () => {
  it('compiles as it stands', async () => {
    expect([...files.keys()]).toEqual([
      'functions/pages/source.ts',
      'functions/pages/source.handler.ts',
      'test/functions/pages/source.test.ts',
    ]);
    const config = {
      extends: './tsconfig.json',
      compilerOptions: { preserveSymlinks: true },
      include: [],
      files: [...files.keys()],
    };
    await writeFile(join(copy, 'tsconfig.page.json'), JSON.stringify(config));
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    await promisify(execFile)(process.execPath, [tsc, '--noEmit', '-p', 'tsconfig.page.json'], { cwd: copy }).catch(
      (error: { stdout: string }) => expect.fail(error.stdout),
    );
  });

  it('shows a source of under 60 lines', () => {
    expect(files.get('functions/pages/source.ts')!.trim().split('\n').length).toBeLessThan(60);
  });
});

describeSource('the page’s connector', async () => {
  const server = await pagesServer();
  // Run where the page's own imports resolve: beside the real shared folder.
  const text = files
    .get('functions/pages/source.ts')!
    .replaceAll('../../shared/', `${root}/shared/`)
    .replace("'zod'", `'${root}/node_modules/zod/index.js'`);
  const file = join(copy, 'pages-source.ts');
  await writeFile(file, text);
  const { pagesSource } = await import(/* @vite-ignore */ file);
  return {
    source: pagesSource,
    config: { url: server.url, topic: 'pages' },
    expected: server.items.map((item) => ({ topic: 'pages', key: { id: item.id }, value: item })),
    cleanup: server.close,
  };
});
