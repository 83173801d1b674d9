import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { dynamoTable } from '../../../shared/state/dynamodb/table.ts';
import { crashMatrix, type Extent, processorMatrix } from '../../kit/crash-matrix.ts';
import { type Dynoxide, startDynoxide } from '../../kit/dynoxide.ts';

/** Every operation is a place to crash on memory; here each kind of operation is, and with SLUICE_MATRIX=full every one, for half an hour. */
const extent: Extent = process.env.SLUICE_MATRIX === 'full' ? 'every operation' : 'one of each kind';

describe('crash matrix on the embedded DynamoDB', () => {
  let server: Dynoxide;
  let tables = 0;
  beforeAll(async () => {
    server = await startDynoxide();
  });
  afterAll(() => server.stop());

  const newTable = async () => {
    const tableName = `matrix-${tables++}`;
    await server.createTable(tableName);
    return dynamoTable({ client: server.client, tableName });
  };

  it.each(['owning', 'keyed', 'staged'] as const)(
    'log → %s destination',
    { timeout: 3_600_000 },
    async (destination) => {
      const cases = await crashMatrix(destination, newTable, 1, { extent });
      process.stdout.write(`crash matrix, dynoxide, ${destination}: ${cases} schedules\n`);
      expect(cases).toBeGreaterThan(50);
    },
  );

  it('log → processor → log, beside a direct copy: both agree', { timeout: 3_600_000 }, async () => {
    const cases = await processorMatrix(newTable, 1, extent);
    process.stdout.write(`crash matrix, dynoxide, processor: ${cases} schedules\n`);
    expect(cases).toBeGreaterThan(60);
  });
});
