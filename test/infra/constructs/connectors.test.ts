import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { fileSink } from '../../../functions/file/file-sink.ts';
import { fileSource } from '../../../functions/file/file-source.ts';
import { mysqlSink } from '../../../functions/mysql/sink.ts';
import { postgresSink } from '../../../functions/postgres/sink.ts';
import { fileSource as declaredSource, sinkPlugins, sourcePlugins } from '../../../infra/connectors.ts';

const root = join(import.meta.dirname, '../../..');

/** What infra says of a connector without loading it, beside the connector itself. */
it('says of each source what the source says', async () => {
  expect(sourcePlugins.map(({ plugin }) => plugin)).toEqual([
    'file',
    'mysql-cdc',
    'postgres-cdc',
    'mysql-query',
    'postgres-query',
  ]);
  for (const { plugin, module, exportName, replay, tells, hold, lag, schema, handler } of sourcePlugins) {
    const { [exportName]: source } = await import(join(root, module));
    expect(source).toMatchObject({ type: plugin, replay });
    expect({ tells: source.tells, hold: source.hold, lag: source.lag && true }).toEqual({ tells, hold, lag });
    expect(source.config).toBe(schema);
    expect(existsSync(join(root, handler!))).toBe(true);
  }
});

it('says of each sink what the sink says', async () => {
  expect(sinkPlugins.map(({ plugin }) => plugin)).toEqual(['file', 'postgres', 'mysql']);
  for (const { plugin, module, exportName, delivery, order, schema, handler } of sinkPlugins) {
    const { [exportName]: sink } = await import(join(root, module));
    expect(sink).toMatchObject({ type: plugin, delivery });
    expect(sink.order).toBe(order);
    expect(sink.config).toBe(schema);
    expect(existsSync(join(root, handler!))).toBe(true);
  }
  expect([fileSource.type, fileSink.type, postgresSink.type, mysqlSink.type]).toEqual([
    'file',
    'file',
    'postgres',
    'mysql',
  ]);
});

it.each([{ path: '/data/orders.jsonl' }, { path: '/data/*.csv', topic: 'all' }])(
  'writes to the topics of %o',
  (config) => {
    const { topics, schema } = declaredSource(config);
    const parsed = schema.parse(config);
    expect(topics(parsed)).toEqual(fileSource.topics(parsed as never));
  },
);
