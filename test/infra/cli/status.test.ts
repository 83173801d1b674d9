import { expect, test } from 'vitest';
import { statusLines } from '../../../infra/cli/connectors.ts';
import { readStates } from '../../../shared/management/status.ts';
import { putConnector } from '../../../shared/state/connectors.ts';
import type { MeasuredLag } from '../../../shared/state/lag.ts';
import { memoryTable } from '../../../shared/state/memory/table.ts';
import { specOf } from '../../kit/platform.ts';

const hourMs = 3_600_000;

test('status says how far each is behind, and what is kept for it', async () => {
  const table = memoryTable();
  for (const [name, kind] of [
    ['a-file', 'source'],
    ['b-changes', 'source'],
    ['c-refused', 'source'],
    ['d-reader', 'sink'],
    ['e-reader', 'sink'],
  ] as const)
    await putConnector(table, specOf({ name, kind, ...(kind === 'sink' && { from: [] }) }), { incarnation: name });
  const nowMs = Date.now();
  const retained = { bytes: 7_000_000, share: 0.62, text: 'the server keeps 7 MB' };
  const lags = new Map<string, MeasuredLag>([
    ['b-changes', { atMs: nowMs - 3 * 60_000, lag: { bytes: 5_300_000, behindMs: 2 * hourMs, retained } }],
    ['c-refused', { atMs: nowMs - 3 * 60_000, error: 'cannot connect' }],
    ['d-reader', { atMs: nowMs, lag: { records: 1_234, bytes: 99, behindMs: 61_000 } }],
    ['e-reader', { atMs: nowMs, lag: { records: 0, bytes: 0, behindMs: 0 } }],
  ]);
  expect(statusLines(await readStates(table, nowMs), lags)).toEqual([
    expect.stringMatching(/^connector +kind +state +records +bytes +lag +delivery$/),
    expect.stringMatching(/^a-file +source +RUNNING +0 +0 B$/),
    expect.stringMatching(/^b-changes +source +RUNNING +0 +0 B +5\.3 MB, 2 h$/),
    expect.stringMatching(/^c-refused +source +RUNNING +0 +0 B$/),
    expect.stringMatching(/^d-reader +sink +RUNNING +0 +0 B +1,234 records, 99 B, 61 s$/),
    expect.stringMatching(/^e-reader +sink +RUNNING +0 +0 B +0$/),
    'b-changes: 62% of what its upstream keeps is used: the server keeps 7 MB (as of 3 min ago)',
    'c-refused: lag could not be measured, as of 3 min ago: cannot connect',
  ]);
});
