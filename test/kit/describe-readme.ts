import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type * as z from 'zod';
import { primitiveTypes } from '../../shared/connect/schema.ts';

/** What the README of a database's sink, and the document of types, must name. */
export const describeReadme = (system: string, config: z.ZodObject): void => {
  const readme = readFileSync(new URL(`../../functions/${system}/README.md`, import.meta.url), 'utf8');

  test('the README has every config key and every canonical type', () => {
    const [, keys = ''] = readme.split('### Config');
    for (const [key, field] of Object.entries(config.shape)) {
      expect(keys).toContain(`\`${key}\``);
      expect((field as z.ZodType).description).toBeTruthy();
    }
    const types = readFileSync(new URL('../../docs/type-mapping.md', import.meta.url), 'utf8');
    for (const type of [...primitiveTypes, 'array', 'map', 'struct'])
      expect(types).toMatch(new RegExp(`^\\|.*\\b${type}\\b`, 'm'));
  });
};
