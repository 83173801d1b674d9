import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { connectorEntry, directEntry, processorEntry } from '../../infra/bundle-entries.ts';
import { sinkFile, sourceFile } from '../../infra/connector-file.ts';
import { sinkFromFile, sinkPlugins, sourceFromFile, sourcePlugins } from '../../infra/connectors.ts';
import { transformIn, transformProblems } from '../../infra/transform-files.ts';
import { loadDefaultExport } from '../../infra/user-file.ts';

const directory = mkdtempSync(join(tmpdir(), 'sluice-user-'));
afterAll(() => rmSync(directory, { recursive: true }));
symlinkSync(join(import.meta.dirname, '../../node_modules'), join(directory, 'node_modules'));

const write = (name: string, text: string): string => {
  const path = join(directory, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, text);
  return path;
};

/** The message, with paths from the directory of these files. */
const messageOf = (run: () => unknown): string => {
  try {
    run();
  } catch (thrown) {
    return (thrown as Error).message.replaceAll(`${directory}/`, '');
  }
  throw new Error('nothing was thrown');
};

const same = `import { recordTransform } from 'sluice/connect/transform';
`;

describe("a file of the user's own", () => {
  it('is TypeScript as bundlers take it, and finds Sluice and its packages wherever it stands', () => {
    write('sub/rates.ts', 'export enum Rate { usd = 2 }\n');
    const path = write(
      'sub/all.ts',
      `import { ConnectError } from 'sluice/connect/errors';
import * as z from 'zod';
import { Rate } from './rates';
export default [Rate.usd, new ConnectError('CORRUPT', 'x').code, z.int().safeParse(1).success];
`,
    );
    expect(loadDefaultExport(path)).toEqual([2, 'CORRUPT', true]);
  });

  it.each([
    ['missing.ts', undefined, 'there is no file missing.ts'],
    ['syntax.ts', 'const a = 1;\n  export default = a;\n', 'syntax.ts:2:18: Unexpected "="'],
    [
      'imports.ts',
      "import './a.ts';\nimport './b.ts';\n",
      'imports.ts:1:8: Could not resolve "./a.ts"; imports.ts:2:8: Could not resolve "./b.ts"',
    ],
    ['package.ts', "import 'no-such-package';\n", "package.ts can't be loaded: Cannot find module 'no-such-package'"],
    ['throws.ts', 'throw new Error("no rates today");\n', "throws.ts can't be loaded: no rates today"],
    [
      'awaits.ts',
      'export default await 1;\n',
      'awaits.ts:1:16: Top-level await is currently not supported with the "cjs" output format',
    ],
    [
      'constructs.ts',
      "import { Trigger } from 'sluice';\nexport default Trigger;\n",
      'constructs.ts imports sluice, which describes an app and is not there in a function; import from sluice/connect/…',
    ],
    [
      'cdk.ts',
      "import { Duration } from 'aws-cdk-lib/core';\nexport default Duration;\n",
      'cdk.ts imports aws-cdk-lib/core, which describes an app and is not there in a function; import from sluice/connect/…',
    ],
  ])('that is not right is refused with its place: %s', (name, text, message) => {
    const path = text === undefined ? join(directory, name) : write(name, text);
    expect(messageOf(() => loadDefaultExport(path))).toBe(message);
  });
});

describe('the files of transforms', () => {
  it('hold a transform, or several', () => {
    const one = write('one.ts', `${same}export default recordTransform('one', (record) => record);\n`);
    const two = write('two.ts', `import one from './one.ts';\nexport default [one, one];\n`);
    expect(transformProblems([one, two])).toEqual([]);
    expect(transformProblems()).toEqual([]);
  });

  it('may be names of those that come with Sluice', () => {
    expect(transformProblems(['unwrap'])).toEqual([]);
    expect(processorEntry(['unwrap'])).toMatchObject({
      text: expect.stringContaining('from "./shared/transforms/unwrap"'),
    });
    expect(transformIn('/anywhere', 'unwrap')).toBe('unwrap');
    expect(transformIn('/anywhere', './unwrap')).toBe('/anywhere/unwrap');
  });

  it.each(['', 'export default (record) => record;', 'export default [];', 'export default { name: "x", apply: 1 };'])(
    'hold nothing else: %s',
    (text) => {
      const problems = transformProblems([write('none.ts', text), join(directory, 'gone.ts')]);
      expect(problems.map(({ path }) => path)).toEqual([
        ['transforms', 0],
        ['transforms', 1],
      ]);
      expect(problems[0]!.message).toMatch(
        /the default export of .*none\.ts is no transform, and no list of them; write `export default recordTransform/,
      );
      expect(problems[1]!.message).toMatch(/there is no file .*gone\.ts/);
    },
  );
});

const connector = (define: string, more: string): string => `import * as z from 'zod';
import { ${define} } from 'sluice/connect/connector';
export default ${define}({
  type: 'pages',
  config: z.strictObject({ url: z.string(), topic: z.string() }),
  async open() { throw new Error('not opened'); },
  ${more}
});
`;
const source = connector('defineSource', "offset: z.int(), replay: 'shifting', topics: ({ topic }) => [topic],");
const sink = connector('defineSink', "delivery: ({ url }) => (url === '' ? 'at-least-once' : 'effectively-once'),");

describe("a connector of the user's own", () => {
  it('is described by its file', () => {
    const path = write('source.ts', source);
    const found = sourceFromFile(path, { url: 'http://x', topic: 'pages' });
    expect(found).toMatchObject({ plugin: 'pages', role: 'source', replay: 'shifting', module: path });
    expect(found.topics(found.schema.parse(found.config))).toEqual(['pages']);
    expect(sinkFromFile(write('sink.ts', sink), { url: '', topic: '' }).delivery).toBe('at-least-once');
    expect(sinkFromFile(write('sink.ts', sink), { url: 'x', topic: '' }).delivery).toBe('effectively-once');
  });

  it('must be one', () => {
    const path = write('neither.ts', 'export default { type: "a b", config: {}, open() {} };\n');
    expect(messageOf(() => sourceFile(path))).toBe(
      'the default export of neither.ts is no source (type: use letters, digits, ".", "_" and "-", at most 200; config: expected a zod schema; offset: expected a zod schema; replay: Invalid option: expected one of "exact"|"shifting"|"none"; topics: expected a function); write `export default defineSource({ … })`',
    );
    expect(messageOf(() => sinkFile(write('source.ts', source)))).toBe(
      'the default export of source.ts is no sink (delivery: expected at-least-once, effectively-once, exactly-once, or a function); write `export default defineSink({ … })`',
    );
    expect(messageOf(() => sinkFile(write('empty.ts', 'export const x = 1;\n')))).toBe(
      'the default export of empty.ts is no sink (Invalid input: expected object, received undefined); write `export default defineSink({ … })`',
    );
  });
});

describe('the function of what is given by file', () => {
  const one = write('one.ts', `${same}export default recordTransform('one', (record) => record);\n`);
  const [file] = sourcePlugins;
  const postgres = sinkPlugins.find(({ plugin }) => plugin === 'postgres')!;

  it('is the one that the package brings along where nothing is given', () => {
    expect(connectorEntry(postgres)).toEqual({ name: 'postgres-sink', file: postgres.handler });
    expect(processorEntry()).toMatchObject({ name: 'processor' });
  });

  it('has another name with other transforms, in another order, and the same with the same', () => {
    const names = [
      connectorEntry(postgres, [one]),
      connectorEntry(postgres, [one, join(directory, 'two.ts')]),
      connectorEntry(postgres, [join(directory, 'two.ts'), one]),
      connectorEntry(file!, [one]),
      directEntry(file!, postgres),
      directEntry(file!, postgres, [one]),
      processorEntry([one]),
      connectorEntry(sourceFile(write('source.ts', source))),
    ].map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    expect(names.map((name) => name.replace(/-[0-9a-f]{8}$/, ''))).toEqual([
      'postgres-sink',
      'postgres-sink',
      'postgres-sink',
      'file-source',
      'direct-file-postgres',
      'direct-file-postgres',
      'processor',
      'pages-source',
    ]);
    expect(connectorEntry(postgres, [one])).toEqual(connectorEntry(postgres, [one]));
  });
});
