import * as z from 'zod';
import { deliveries, type SinkConnector, type SourceConnector } from '../shared/connect/connector.ts';
import { Name } from '../shared/connect/spec.ts';
import { shownPath } from './compile.ts';
import type { SinkPlugin, SourcePlugin } from './connectors.ts';
import { refused } from './problems.ts';
import { loadDefaultExport } from './user-file.ts';

const a = (what: string, check: (value: unknown) => boolean) => z.custom(check, { error: `expected ${what}` });
const aFunction = a('a function', (value) => typeof value === 'function');
const aSchema = a('a zod schema', (value) => typeof (value as { safeParse?: unknown })?.safeParse === 'function');

/** What must be there for a function to be made of it; the types of `defineSource` and `defineSink` say the rest. */
const shapes = {
  source: z.looseObject({
    type: Name,
    config: aSchema,
    offset: aSchema,
    replay: z.enum(['exact', 'shifting', 'none']),
    topics: aFunction,
    open: aFunction,
  }),
  sink: z.looseObject({
    type: Name,
    config: aSchema,
    delivery: z.union([z.enum(deliveries), aFunction], { error: `expected ${deliveries.join(', ')}, or a function` }),
    open: aFunction,
  }),
};

/**
 * A connector of the user's own, from the absolute path of the file whose default export it is. It is loaded for its schema, its
 * topics and what it can promise, and bundled like the others.
 *
 * @throws CONFIG_INVALID
 */
export const sourceFile = (path: string): SourcePlugin => {
  const { type, config, replay, topics, tells, hold, lag } = loadConnector(path, 'source') as SourceConnector;
  return {
    ...{ plugin: type, role: 'source', schema: config, replay, topics, module: path, exportName: 'default' },
    ...(tells === undefined ? {} : { tells }),
    ...(hold === undefined ? {} : { hold }),
    ...(lag === undefined ? {} : { lag: true }),
  };
};

export const sinkFile = (path: string): SinkPlugin => {
  const { type, config, delivery, order } = loadConnector(path, 'sink') as SinkConnector;
  return {
    ...{ plugin: type, role: 'sink', schema: config, delivery, module: path, exportName: 'default' },
    ...(order === undefined ? {} : { order }),
  };
};

const loadConnector = (path: string, role: keyof typeof shapes): unknown => {
  const connector = loadDefaultExport(path);
  const parsed = shapes[role].safeParse(connector);
  if (parsed.success) return connector;
  const problems = parsed.error.issues.map(({ path: at, message }) => [...at.map(String), message].join(': '));
  const define = role === 'source' ? 'defineSource' : 'defineSink';
  throw refused(
    `the default export of ${shownPath(path)} is no ${role} (${problems.join('; ')}); write \`export default ${define}({ … })\``,
  );
};
