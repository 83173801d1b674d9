import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { importsOf, type SourceFile, violations } from './rooms.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

const sources = (folder: string): readonly SourceFile[] =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ts|js)$/.test(name))
    .map((name) => `${folder}/${name.replaceAll('\\', '/')}`)
    .map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }));

const files = ['shared', 'functions', 'infra'].flatMap(sources);

test('every room imports only what it may (DESIGN §8)', () => {
  expect(files.length).toBeGreaterThan(50);
  expect(violations(files)).toEqual([]);
});

test.each([
  ['shared/connect/x.ts', "import { join } from 'node:path';"],
  ['shared/connect/x.ts', "import { createLedger } from '../runtime/ledger.ts';"],
  ['shared/runtime/x.ts', "import { DynamoDBClient } from '@aws-sdk/client-dynamodb';"],
  ['shared/runtime/x.ts', "import { dynamoTable } from '../state/dynamodb/table.ts';"],
  ['shared/log/x.ts', "import { Stack } from 'aws-cdk-lib/core';"],
  ['shared/state/x.ts', "import { S3Client } from '@aws-sdk/client-s3';"],
  ['shared/transforms/x.ts', "import pg from 'pg';"],
  ['shared/management/x.ts', "import { fileSink } from '../../functions/file/file-sink.ts';"],
  ['shared/lambda/x.ts', "import { Construct } from 'constructs';"],
  ['shared/log/x.ts', "import { startHost } from '../../infra/local/host.ts';"],
  ['functions/mysql/source-config.ts', "import mysql from 'mysql2';"],
  ['functions/mysql/config.ts', "import { readFile } from 'node:fs/promises';"],
  ['functions/mysql/config.ts', "import { createLedger } from '../../shared/runtime/ledger.ts';"],
  ['functions/mysql/sink.ts', "import { connect } from '../postgres/client.ts';"],
  ['functions/mysql/config.ts', "import { PostgresSink } from '../postgres/config.ts';"],
  ['functions/mysql/sink.ts', "import { Duration } from 'aws-cdk-lib/core';"],
  ['functions/mysql/sink.ts', "import { connector } from '../../infra/constructs/connector.ts';"],
  ['functions/mysql/sink.ts', "import { until } from '../../test/kit/until.ts';"],
  ['infra/constructs/x.ts', "import { mysqlSource } from '../../functions/mysql/source.ts';"],
  ['infra/constructs/x.ts', "import { createLedger } from '../../shared/runtime/ledger.ts';"],
  ['infra/constructs/x.ts', "import { DynamoDBClient } from '@aws-sdk/client-dynamodb';"],
  ['infra/local/x.ts', "import { handler } from '../../functions/mysql/sink.handler.ts';"],
  ['infra/cli/x.ts', "import { until } from '../../test/kit/until.ts';"],
  ['infra/local/x.ts', "import { z } from 'zod';"],
  ['shared/connect/x.ts', "import z from 'zod';"],
  ['functions/mysql/config.ts', "import * as zod from 'zod';"],
  ['functions/mysql/sink.ts', "export { connect } from '../postgres/client.ts';"],
  ['functions/mysql/sink.ts', "const { connect } = await import('../postgres/client.ts');"],
  ['shared/log/x.ts', "import {\n  type A,\n  b,\n} from 'pg';"],
  ['shared/log/x.ts', "import 'pg';"],
])('%s may not have %s', (path, text) => {
  expect(violations([{ path, text }])).toEqual([expect.stringContaining(path)]);
});

test.each([
  ['shared/connect/x.ts', "import * as z from 'zod';\nimport { any } from './schema.ts';"],
  ['shared/runtime/x.ts', "import { readTask } from '../state/lease.ts';\nimport { hash } from 'node:crypto';"],
  ['shared/state/dynamodb/x.ts', "import { DynamoDBClient } from '@aws-sdk/client-dynamodb';"],
  [
    'functions/mysql/config.ts',
    "import type * as z from 'zod';\nimport { any } from '../../shared/connect/schema.ts';\nimport { Tls } from './tls-config.ts';",
  ],
  ['functions/mysql/client.ts', "import mysql from 'mysql2/promise';"],
  [
    'functions/mysql/sink.ts',
    "import { connect } from './client.ts';\nimport { logSource } from '../../shared/log/read.ts';",
  ],
  [
    'infra/stacks/x.ts',
    "import { Stack } from 'aws-cdk-lib/core';\nimport { FileSink } from '../../functions/file/sink-config.ts';",
  ],
  ['infra/local/x.ts', "import { createLedger } from '../../shared/runtime/ledger.ts';"],
  ['shared/log/x.ts', "// import pg from 'pg';\n/* import { x } from 'pg'; */\nconst text = `from 'pg'`;"],
])('%s may have %s', (path, text) => {
  expect(violations([{ path, text }])).toEqual([]);
});

test('what a config imports of its own folder is under the same rule', () => {
  const config = { path: 'functions/mysql/config.ts', text: "import { tls } from './tls.ts';" };
  const tls = { path: 'functions/mysql/tls.ts', text: "import { any } from '../../shared/connect/schema.ts';" };
  const bad = { path: 'functions/mysql/tls.ts', text: "import { readFileSync } from 'node:fs';" };
  expect(violations([config, tls])).toEqual([]);
  const client = { path: 'functions/mysql/client.ts', text: "import mysql from 'mysql2';" };
  const driven = { path: 'functions/mysql/config.ts', text: "import { connect } from './client.ts';" };
  expect(violations([driven, client])).toEqual(['functions/mysql/client.ts: a config may not import mysql2']);
  expect(violations([config, bad])).toEqual([
    expect.stringMatching(/^functions\/mysql\/tls\.ts: a config may not import node:fs/),
  ]);
});

test('a driver has one importer in a folder', () => {
  const client = {
    path: 'functions/mysql/client.ts',
    text: "import mysql from 'mysql2';\nimport zongji from 'zongji';",
  };
  const types = { path: 'functions/mysql/types.ts', text: "import type { Row } from 'mysql2';" };
  const sink = { path: 'functions/mysql/sink.ts', text: "import { format } from 'mysql2/lib/format.js';" };
  expect(violations([client, types])).toEqual([]);
  expect(violations([client, sink])).toEqual([expect.stringMatching(/^functions\/mysql\/sink\.ts: the driver mysql2/)]);
  expect(violations([client, { path: 'infra/local/x.ts', text: sink.text }])).toHaveLength(1);
});

test('every form of an import is seen', () => {
  const text = [
    "import a from './a.ts';",
    "import type { B } from './b.ts';",
    "import * as c from './c.ts';",
    "import {\n  d,\n  type D,\n} from './d.ts';",
    "import './e.ts';",
    "export { f } from './f.ts';",
    "export * from './g.ts';",
    "  const h = await import('./h.ts');",
    "export const notOne = 'i.ts';",
  ].join('\n');
  const seen = importsOf({ path: 'shared/x/y.ts', text }).map(({ to }) => to);
  expect(seen).toEqual(['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map((name) => `shared/x/${name}.ts`));
});
