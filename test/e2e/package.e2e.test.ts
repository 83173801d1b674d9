import { type ExecFileException, execFile } from 'node:child_process';
import { cp, mkdir, readdir, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readRows } from '../functions/file/sink/read-files.ts';
import { type PostgresServer, startPostgres } from '../kit/postgres-server.ts';
import { queryRows } from '../kit/rows.ts';
import { envelopeOf, makeWorkplace, repository, type Workplace } from '../kit/sluice.ts';

/**
 * The package as somebody installs it: packed, installed into an empty app of the CDK with the lowest versions that it says it runs
 * with, and used from TypeScript and from the command line.
 */
const installMs = 300_000;

let place: Workplace;
let postgres: PostgresServer;
let app: string;

/** Runs a program with nothing of this repository in its environment but the Node that runs the tests. */
const exec = async (cwd: string, program: string, args: readonly string[], more: Record<string, string> = {}) => {
  const { PATH, HOME, TMPDIR, NODE_EXTRA_CA_CERTS, npm_config_registry } = process.env;
  const path = [place.path('bin'), ...PATH!.split(delimiter).filter((directory) => !directory.startsWith(repository))];
  const env = {
    HOME,
    TMPDIR,
    NODE_EXTRA_CA_CERTS,
    npm_config_registry,
    SLUICE_TEST_DIRECTORY: place.directory,
    ...more,
  };
  const options = { cwd, env: { ...env, PATH: path.join(delimiter) }, maxBuffer: 1 << 26 };
  return promisify(execFile)(program, args, options).catch((thrown: ExecFileException) => {
    throw new Error(`${program} ${args.join(' ')}: ${thrown.stdout}${thrown.stderr}`);
  });
};

const readJson = async (file: string) => JSON.parse(await readFile(file, 'utf8'));

/** `npm pack`, which builds, in a copy: the tests that run beside this one use the repository. */
const pack = async (): Promise<string> => {
  const copy = place.path('copy');
  await mkdir(join(copy, 'docs'), { recursive: true });
  const configs = ['package.json', 'tsconfig.json', 'tsconfig.build.json'];
  for (const name of ['functions', 'infra', 'shared', 'README.md', ...configs])
    await cp(join(repository, name), join(copy, name), { recursive: true });
  await symlink(join(repository, 'node_modules'), join(copy, 'node_modules'));
  await exec(copy, 'npm', ['pack', '--pack-destination', place.directory]);
  await rm(copy, { recursive: true });
  const { name, version } = await readJson(join(repository, 'package.json'));
  return place.path(`${name}-${version}.tgz`);
};

/** The lowest version of a range such as ^2.230.0. */
const lowest = (range: string): string => range.replace(/^\^/, '');

beforeAll(async () => {
  place = await makeWorkplace();
  await mkdir(place.path('bin'));
  await symlink(await realpath(process.execPath), place.path('bin/node'));
  const { devDependencies, peerDependencies } = await readJson(join(repository, 'package.json'));
  const [tarball, server] = await Promise.all([pack(), startPostgres()]);
  postgres = server;
  app = place.path('app');
  await cp(join(repository, 'examples'), app, {
    recursive: true,
    filter: (path) => !/[/\\](out|\.sluice)$/.test(path),
  });
  const versions = {
    'aws-cdk-lib': lowest(peerDependencies['aws-cdk-lib']),
    constructs: lowest(peerDependencies.constructs),
    typescript: devDependencies.typescript,
    '@types/node': devDependencies['@types/node'],
  };
  await writeFile(join(app, 'package.json'), JSON.stringify({ name: 'app', private: true, type: 'module' }));
  await exec(app, 'npm', [
    ...['install', '--prefer-offline', '--no-audit', '--no-fund', '--save-exact', tarball],
    ...Object.entries(versions).map(([name, version]) => `${name}@${version}`),
  ]);
}, installMs);

afterAll(async () => {
  await postgres?.stop();
  await place[Symbol.asyncDispose]();
});

test('holds what it needs, and no path of the machine that made it', async () => {
  const home = await realpath(join(app, 'node_modules/sluice'));
  const files = (await readdir(home, { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile());
  for (const { parentPath, name } of files)
    expect(await readFile(join(parentPath, name), 'utf8'), `${parentPath}/${name}`).not.toContain(repository);
  const { dependencies } = await readJson(join(home, 'package.json'));
  expect(Object.keys(dependencies)).not.toContain('aws-cdk-lib');
  expect((await readdir(home)).sort()).toEqual(['README.md', 'dist', 'docs', 'infra', 'package.json']);
});

test('has types for the most careful of compilers', async () => {
  const compilerOptions = {
    target: 'es2024',
    module: 'nodenext',
    types: ['node'],
    strict: true,
    noUncheckedIndexedAccess: true,
    skipLibCheck: false,
    noEmit: true,
  };
  const files = ['orders.ts', 'transforms/euro.ts'];
  await writeFile(join(app, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  await exec(app, 'node', ['node_modules/typescript/bin/tsc', '-p', '.']);
}, 120_000);

test('synthesizes the example, whose lines are few', async () => {
  await exec(app, 'node', ['orders.ts'], { CDK_OUTDIR: join(app, 'cdk.out'), CDK_VALIDATION: 'false' });
  const { Resources } = await readJson(join(app, 'cdk.out/Orders.template.json'));
  const resources = Object.values(Resources as Record<string, { Type: string; Properties: Record<string, unknown> }>);
  const ofType = (type: string) => resources.filter(({ Type }) => Type === type).map(({ Properties }) => Properties);
  const descriptions = ofType('AWS::Lambda::Function').map(({ Description }) => Description);
  expect(descriptions).toEqual(
    expect.arrayContaining([
      'Sluice dispatcher',
      'Sluice coordinator',
      'Sluice deploy',
      'Sluice source orders-orders-files',
      'Sluice sink orders-warehouse',
      'Sluice sink orders-lake',
    ]),
  );
  const specs = ofType('Custom::SluiceConnector').map(({ Spec }) => JSON.stringify(Spec));
  expect(specs.filter((spec) => spec.includes('transforms/euro.ts'))).toHaveLength(1);
  const lines = (await readFile(join(app, 'orders.ts'), 'utf8')).trimEnd().split('\n');
  expect(lines.length).toBeLessThan(30);
}, 120_000);

test('runs the same pipeline in YAML', async () => {
  const env = { SLUICE_POSTGRES_URL: postgres.url };
  const { stdout, stderr } = await exec(app, 'npx', ['sluice', 'run', 'orders.yaml', '--json'], env);
  expect(envelopeOf({ code: 0, stdout, stderr })).toMatchObject({ command: 'run', ok: true });
  const sql = 'SELECT order_id, customer, amount, currency, amount_eur FROM orders ORDER BY order_id';
  expect(await queryRows(postgres.url, sql)).toEqual([
    ['1001', 'Aoife Byrne', '129.90', 'EUR', '129.90'],
    ['1002', 'Samuel Osei', '18.00', 'GBP', '20.52'],
    ['1003', 'Ines Duarte', '81.75', 'EUR', '81.75'],
    ['1004', 'Maya Chen', '310.00', 'USD', '266.60'],
    ['1005', 'Jonas Weber', '42.50', 'EUR', '42.50'],
    ['1006', 'Priya Nair', '95.10', 'GBP', '108.41'],
  ]);
  const rows = await readRows(join(app, 'out'));
  expect(rows.map(({ value }) => (value as { order_id: string }).order_id)).toEqual(
    ['1001', '1002', '1003', '1004'].concat(['1005', '1003', '1006']),
  );
  expect(rows.every(({ file }) => /^orders\/day=2026-11-2[01]\/.*\.parquet$/.test(file))).toBe(true);
  expect(await readdir(join(app, '.sluice'))).toContain('bundles');
}, 120_000);
