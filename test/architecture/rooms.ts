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
/** The SDK of AWS and what it is made of. */
const aws = '^@(aws-sdk|smithy)/';
const zod = '^zod$';
/** Rooms that know no AWS: they run anywhere, and in every bundle. */
const core = '^shared/(connect|converters|transforms|runtime|log|sql|verify)/|^shared/state/(?!dynamodb/)';
const anyConfig = '^functions/[^/]+/([^/]+-)?config\\.ts$';
const anyPackage = '^(?!shared/|functions/|infra/|test/|bench/)';
const driver = `${anyPackage}(?!node:|zod$|aws-cdk|@aws-cdk/|constructs$)`;

/** DESIGN §8. To let a room import more, change this table together with that section. */
const rooms: readonly Room[] = [
  { name: 'the contract', files: /^shared\/connect\//, may: ['^shared/connect/', zod] },
  {
    name: 'an AWS edge',
    files: /^shared\/(state\/dynamodb|s3|management|lambda|observe)\//,
    may: ['^shared/', node, zod, aws],
  },
  { name: 'the core', files: /^shared\//, may: [core, node, zod] },
  { name: 'a connector', files: /^functions\/([^/]+)\//, may: ['^shared/', '^functions/$1/', node, zod, driver] },
  {
    name: 'the machine',
    files: /^infra\/(local|cli)\//,
    // `sluice infer` reads files as the file source does.
    may: ['^shared/', '^infra/', anyConfig, '^functions/file/infer\\.ts$', anyPackage],
  },
  {
    name: 'infra',
    files: /^infra\//,
    // REST and YAML share the one map of how Kafka Connect spells a config.
    may: ['^shared/(connect/|management/config-keys\\.ts$)', '^infra/', anyConfig, `${anyPackage}(?!@aws-sdk/)`],
  },
];
const config: Room = {
  name: 'a config',
  files: /^functions\/([^/]+)\//,
  may: ['^shared/connect/', '^functions/$1/', zod],
};

/** What stands between `import` and `from`: names, braces, commas, a star. */
const clause = '[\\w$*{},\\s]+';
const quoted = `['"]([^'"]+)['"]`;
const statements = new RegExp(
  `^\\s*(?:import\\s+(?:${clause}\\sfrom\\s+)?${quoted}|export\\s+${clause}\\sfrom\\s+${quoted})|\\bimport\\(\\s*${quoted}`,
  'gm',
);

const withoutComments = (text: string): string => text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');

export const importsOf = ({ path, text }: SourceFile): readonly Import[] =>
  Array.from(withoutComments(text).matchAll(statements), ([statement, imported, exported, dynamic]) => {
    const specifier = (imported ?? exported ?? dynamic)!;
    const to = specifier.startsWith('.') ? posix.join(posix.dirname(path), specifier) : specifier;
    return { from: path, to, statement: statement.trim() };
  });

/** Each import that its room may not have, with the reason. */
export const violations = (files: readonly SourceFile[]): readonly string[] => {
  const imports = files.flatMap(importsOf);
  const configs = configFiles(imports);
  return [
    ...imports.flatMap((one) => forbidden(one, configs.has(one.from) ? config : roomOf(one.from))),
    ...secondImporters(imports),
    ...driversInInfra(imports),
  ];
};

const roomOf = (path: string): Room | undefined => rooms.find(({ files }) => files.test(path));

/** Config files, and what they import of their own folder: infra gets both, so one rule holds for both. */
const configFiles = (imports: readonly Import[]): ReadonlySet<string> => {
  const configs = new Set(imports.map(({ from }) => from).filter((path) => new RegExp(anyConfig).test(path)));
  const newFound = () =>
    imports.filter(
      ({ from, to }) => configs.has(from) && !configs.has(to) && posix.dirname(from) === posix.dirname(to),
    );
  for (let found = newFound(); found.length > 0; found = newFound()) for (const { to } of found) configs.add(to);
  return configs;
};

const forbidden = ({ from, to, statement }: Import, room: Room | undefined): readonly string[] => {
  if (room === undefined) return [];
  const [, own = ''] = room.files.exec(from)!;
  const may = room.may.some((pattern) => new RegExp(pattern.replace('$1', own)).test(to));
  if (!may) return [`${from}: ${room.name} may not import ${to}`];
  if (to === 'zod' && !/^import (type )?\* as z from/.test(statement))
    return [`${from}: write import * as z from 'zod'`];
  return [];
};

const isDriver = ({ from, to }: Import): boolean => from.startsWith('functions/') && new RegExp(driver).test(to);
const packageOf = (to: string): string =>
  to
    .split('/')
    .slice(0, to.startsWith('@') ? 2 : 1)
    .join('/');

/** A driver is imported by one file of a connector: its client.ts, or the one file that the driver is for. */
const secondImporters = (imports: readonly Import[]): readonly string[] => {
  const users = imports.filter((one) => isDriver(one) && !one.statement.startsWith('import type'));
  const byDriver = Map.groupBy(users, ({ from, to }) => `${posix.dirname(from)} ${packageOf(to)}`);
  return [...byDriver.values()].flatMap((uses) => {
    const files = new Set(uses.map(({ from }) => from));
    if (files.size === 1) return [];
    const others = [...files].filter((file) => !file.endsWith('/client.ts'));
    return others.map((file) => `${file}: the driver ${packageOf(uses[0]!.to)} has another importer in this folder`);
  });
};

/** What a connector's client talks through is no business of infra. */
const driversInInfra = (imports: readonly Import[]): readonly string[] => {
  const drivers = new Set(imports.filter(isDriver).map(({ to }) => packageOf(to)));
  return imports
    .filter(({ from, to }) => from.startsWith('infra/') && !new RegExp(aws).test(to) && drivers.has(packageOf(to)))
    .map(({ from, to }) => `${from}: infra may not import the driver ${to}`);
};
