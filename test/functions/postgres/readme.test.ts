import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { PostgresCdcConfig } from '../../../functions/postgres/cdc-config.ts';
import { PostgresSinkConfig } from '../../../functions/postgres/config.ts';
import { PostgresQueryConfig } from '../../../functions/postgres/query-config.ts';
import { describeReadme } from '../../kit/describe-readme.ts';

describeReadme('postgres', PostgresSinkConfig);

const readme = readFileSync(new URL('../../../functions/postgres/README.md', import.meta.url), 'utf8');

test('the README has every config key of the source', () => {
  const [, config = ''] = readme.split('### Config of the source');
  for (const [key, field] of Object.entries(PostgresCdcConfig.shape)) {
    expect(key in PostgresSinkConfig.shape || config.includes(`\`${key}\``), key).toBe(true);
    expect(field.description).toBeTruthy();
  }
});

test('the README has every config key of the queries', () => {
  const [, config = ''] = readme.split('### Config of the queries');
  for (const [key, field] of Object.entries(PostgresQueryConfig.shape)) {
    expect(key in PostgresSinkConfig.shape || config.includes(`\`${key}\``), key).toBe(true);
    expect(field.description).toBeTruthy();
  }
});
