import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { PostgresCdcConfig } from '../../../functions/postgres/cdc-config.ts';
import { PostgresSinkConfig } from '../../../functions/postgres/config.ts';
import { primitiveTypes } from '../../../shared/connect/schema.ts';

const readme = readFileSync(new URL('../../../functions/postgres/README.md', import.meta.url), 'utf8');

test('the README has every config key and every canonical type', () => {
  const [, config = ''] = readme.split('### Config');
  for (const [key, field] of Object.entries(PostgresSinkConfig.shape)) {
    expect(config).toContain(`\`${key}\``);
    expect(field.description).toBeTruthy();
  }
  for (const type of [...primitiveTypes, 'array', 'map', 'struct'])
    expect(readme).toMatch(new RegExp(`^\\|.*\\b${type}\\b`, 'm'));
});

test('the README has every config key of the source', () => {
  const [, config = ''] = readme.split('### Config of the source');
  for (const [key, field] of Object.entries(PostgresCdcConfig.shape)) {
    expect(key in PostgresSinkConfig.shape || config.includes(`\`${key}\``), key).toBe(true);
    expect(field.description).toBeTruthy();
  }
});
