import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { MysqlCdcConfig } from '../../../functions/mysql/cdc-config.ts';
import { MysqlSinkConfig } from '../../../functions/mysql/config.ts';
import { MysqlQueryConfig } from '../../../functions/mysql/query-config.ts';
import { describeReadme } from '../../kit/describe-readme.ts';

describeReadme('mysql', MysqlSinkConfig);

const readme = readFileSync(new URL('../../../functions/mysql/README.md', import.meta.url), 'utf8');

test('the README has every config key of the source', () => {
  const [, config = ''] = readme.split('### Config of the source');
  for (const [key, field] of Object.entries(MysqlCdcConfig.shape)) {
    expect(key in MysqlSinkConfig.shape || config.includes(`\`${key}\``), key).toBe(true);
    expect(field.description).toBeTruthy();
  }
});

test('the README has every config key of the queries', () => {
  const [, config = ''] = readme.split('### Config of the queries');
  for (const [key, field] of Object.entries(MysqlQueryConfig.shape)) {
    expect(key in MysqlSinkConfig.shape || config.includes(`\`${key}\``), key).toBe(true);
    expect(field.description).toBeTruthy();
  }
});
