import { posix } from 'node:path';

/** A source file by its path from the repository's root. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

interface Import {
  readonly from: string;
  /** A path from the root for a relative import, else the specifier. */
  readonly to: string;
  readonly statement: string;
}

interface Room {
  readonly name: string;
  /** The files that are in it; the first room that fits counts. */
  readonly files: RegExp;
  /** What they may import; `$1` is the first group of `files`. */
  readonly may: readonly string[];
}

const node = '^node:';
const zod = '^zod$';
/** Rooms that know no AWS: they run anywhere, and in every bundle. */
const pure = '^shared/(connect|converters|transforms|runtime|log|sql)/|^shared/state/(?!dynamodb/)';
const config = '^functions/[^/]+/([^/]+-)?config\\.ts$';
const driver = '^(?!\\.|node:|aws-cdk|constructs$|shared/|functions/|infra/|test/|bench/)';

/** DESIGN §8. To let a room import more, change this table together with that section. */
export const rooms: readonly Room[] = [
  { name: 'the contract', files: /^shared\/connect\//, may: ['^shared/connect/', zod] },
  {
    name: 'an AWS edge',
    files: /^shared\/(state\/dynamodb|management|lambda|observe)\//,
    may: ['^shared/', node, zod, '^@aws-sdk/'],
  },
  { name: 'the core', files: /^shared\//, may: [pure, node, zod] },
  {
    name: 'a config',
    files: /^functions\/([^/]+)\/([^/]+-)?config\.ts$/,
    may: ['^shared/connect/', '^functions/$1/([^/]+-)?config\\.ts$', zod],
  },
  { name: 'a connector', files: /^functions\/([^/]+)\//, may: ['^shared/', '^functions/$1/', node, zod, driver] },
  {
    name: 'the machine',
    files: /^infra\/(local|cli)\//,
    may: ['^shared/', '^infra/', config, node, '^[^.]*$', '^@aws-sdk/'],
  },
  {
    name: 'infra',
    files: /^infra\//,
    may: ['^shared/connect/', '^infra/', config, node, '^[^./@]*$', '^aws-cdk-lib/', '^@aws-cdk/'],
  },
];

const withoutComments = (text: string): string => text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');

const statements = /^\s*(?:import|export)\b[^'"`;]*?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]\s*\)/gm;

export const importsOf = ({ path, text }: SourceFile): readonly Import[] =>
  Array.from(withoutComments(text).matchAll(statements), ([statement, fixed, dynamic]) => {
    const specifier = (fixed ?? dynamic)!;
    const to = specifier.startsWith('.') ? posix.join(posix.dirname(path), specifier) : specifier;
    return { from: path, to, statement: statement.trim() };
  }).filter(({ statement }) => / from |^import ?['"(]|^export .* from|import\(/.test(statement.replace(/\s+/g, ' ')));

/** Each import that a room may not have, with the reason. */
export const violations = (files: readonly SourceFile[]): readonly string[] => {
  const imports = files.flatMap(importsOf);
  return [...imports.flatMap(forbidden), ...secondImporters(imports), ...driversInInfra(imports)];
};

const forbidden = ({ from, to, statement }: Import): readonly string[] => {
  const room = rooms.find(({ files }) => files.test(from));
  if (room === undefined) return [];
  const problems: string[] = [];
  const [, own = ''] = room.files.exec(from)!;
  if (!room.may.some((pattern) => new RegExp(pattern.replace('$1', own)).test(to)))
    problems.push(`${from}: ${room.name} may not import ${to}`);
  if (to === 'zod' && !/^import (type )?\* as z from/.test(statement))
    problems.push(`${from}: write import * as z from 'zod'`);
  return problems;
};

const isDriver = (to: string): boolean => new RegExp(driver).test(to) && to !== 'zod';
const packageOf = (to: string): string =>
  to
    .split('/')
    .slice(0, to.startsWith('@') ? 2 : 1)
    .join('/');

/** A driver is imported by one file of a connector: its client.ts, or the one file that the driver is for. */
const secondImporters = (imports: readonly Import[]): readonly string[] => {
  const importers = new Map<string, Set<string>>();
  for (const { from, to, statement } of imports) {
    const [, system] = /^functions\/([^/]+)\//.exec(from) ?? [];
    if (system === undefined || !isDriver(to) || statement.startsWith('import type')) continue;
    const name = `${system} ${packageOf(to)}`;
    importers.set(name, (importers.get(name) ?? new Set()).add(from));
  }
  return [...importers].flatMap(([name, files]) => {
    const client = `functions/${name.split(' ')[0]}/client.ts`;
    const others = files.size === 1 ? [] : [...files].filter((file) => file !== client);
    return others.map((file) => `${file}: the driver ${name.split(' ')[1]} is imported by another file of the folder`);
  });
};

/** What a connector's client talks through is no business of infra. */
const driversInInfra = (imports: readonly Import[]): readonly string[] => {
  const isConnectors = ({ from, to }: Import) =>
    from.startsWith('functions/') && isDriver(to) && !to.startsWith('@aws-sdk/');
  const drivers = new Set(imports.filter(isConnectors).map(({ to }) => packageOf(to)));
  return imports
    .filter(({ from, to }) => from.startsWith('infra/') && drivers.has(packageOf(to)))
    .map(({ from, to }) => `${from}: infra may not import the driver ${to}`);
};
