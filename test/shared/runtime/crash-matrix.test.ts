import { describe, expect, it } from 'vitest';
import { defaultErrorPolicy } from '../../../shared/state/connectors.ts';
import { memoryTable } from '../../../shared/state/memory/table.ts';
import { crashMatrix, processorMatrix } from '../../kit/crash-matrix.ts';

describe('crash matrix on memory', () => {
  it.each(['owning', 'keyed', 'staged'] as const)('log → %s destination', { timeout: 300_000 }, async (destination) => {
    const cases = await crashMatrix(destination, async () => memoryTable(), 3);
    process.stdout.write(`crash matrix, memory, ${destination}: ${cases} schedules\n`);
    expect(cases).toBeGreaterThan(200);
  });

  it('log → staged destination, retried within the run', { timeout: 300_000 }, async () => {
    const errors = { ...defaultErrorPolicy, retryTimeoutMs: 30_000 };
    const cases = await crashMatrix('staged', async () => memoryTable(), 2, { errors });
    process.stdout.write(`crash matrix, memory, staged with retries: ${cases} schedules\n`);
    expect(cases).toBeGreaterThan(200);
  });

  it('log → processor → log, beside a direct copy: both agree', { timeout: 300_000 }, async () => {
    const cases = await processorMatrix(async () => memoryTable(), 2);
    process.stdout.write(`crash matrix, memory, processor: ${cases} schedules\n`);
    expect(cases).toBeGreaterThan(400);
  });
});
