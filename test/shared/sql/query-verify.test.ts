import { expect, test } from 'vitest';
import { verifyQuery } from '../../../shared/sql/query-verify.ts';
import { keepsDeleted } from '../../../shared/sql/verify.ts';

test('the rows of a query are refused before anything is asked of the server', async () => {
  const verification = verifyQuery({ query: 'SELECT 1' } as never, {} as never, () => undefined);
  await expect(verification.tables!()).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringContaining('only those of `tables`'),
  });
});

test.each([
  ['told one by one', undefined, true, 'record', false],
  ['told one by one, and passed over by the sink', undefined, false, 'record', true],
  ['never told', 'never', true, 'batch', true],
  ['told by runs that are shown whole', 'with runs', true, 'batch', false],
  ['told by runs to a sink that does not look at them', 'with runs', true, 'record', true],
] as const)('whether a destination keeps deleted rows that are %s', (_, deletes, takes, visibility, keeps) => {
  const table = deletes === undefined ? {} : { deletes };
  expect(keepsDeleted(table, { delete: takes, visibility })).toBe(keeps);
});
