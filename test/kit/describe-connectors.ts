import { describe, expect, test } from 'vitest';
import { ConnectorSpec } from '../../shared/connect/spec.ts';
import {
  deleteConnector,
  flipTasks,
  putConnector,
  readConnector,
  requireConnector,
  setTarget,
} from '../../shared/state/connectors.ts';
import { configKey } from '../../shared/state/keys.ts';
import { shapes } from '../../shared/state/shape.ts';
import type { Table } from '../../shared/state/table.ts';

const spec = ConnectorSpec.parse({
  name: 'orders',
  kind: 'source',
  plugin: 'file',
  functionName: 'fn',
  config: { path: 'ä/*.json', nested: [1, null, { deep: true }] },
  to: [{ name: 'orders', queues: 2, retentionMs: 60_000 }],
  trigger: 'manual',
  managedBy: 'rest',
});
const fresh = { incarnation: 'i1' };

/** The rows of connectors over a table. */
export const describeConnectors = (name: string, makeTable: () => Promise<Table>): void => {
  describe(`${name}: connectors`, () => {
    test('created, read, listed, deleted', async () => {
      const table = await makeTable();
      expect(await readConnector(table, 'orders')).toBeUndefined();
      await expect(requireConnector(table, 'orders')).rejects.toMatchObject({ code: 'NOT_FOUND' });
      const created = await putConnector(table, spec, fresh);
      expect(created).toEqual({ ...spec, target: 'STARTED', generation: 1, incarnation: 'i1' });
      expect(await requireConnector(table, 'orders')).toEqual(created);
      await putConnector(table, { ...spec, name: 'a' }, { ...fresh, target: 'STOPPED' });
      expect(await requireConnector(table, 'a')).toMatchObject({ target: 'STOPPED' });
      expect(await table.names('connector')).toEqual(['a', 'orders']);
      await deleteConnector(table, 'orders');
      expect(await readConnector(table, 'orders')).toBeUndefined();
    });

    test('an update keeps incarnation and target, and its generation grows', async () => {
      const table = await makeTable();
      await putConnector(table, spec, fresh);
      await setTarget(table, 'orders', 'pause');
      const { to, ...without } = spec;
      const updated = await putConnector(table, { ...without, config: 2 }, { incarnation: 'i2', target: 'STARTED' });
      expect(updated).toEqual({ ...spec, config: 2, target: 'PAUSED', generation: 3, incarnation: 'i1' });
      expect(await requireConnector(table, 'orders')).toEqual(updated);
    });

    test('a re-created connector has the new incarnation', async () => {
      const table = await makeTable();
      await putConnector(table, spec, fresh);
      await deleteConnector(table, 'orders');
      expect(await putConnector(table, spec, { incarnation: 'i2' })).toMatchObject({
        incarnation: 'i2',
        generation: 1,
      });
    });

    test('another number of tasks waits, and is taken in when it is still wanted', async () => {
      const table = await makeTable();
      await putConnector(table, spec, fresh);
      expect(await putConnector(table, { ...spec, tasks: 3 }, fresh)).toMatchObject({ tasks: 1, pendingTasks: 3 });
      expect(await putConnector(table, { ...spec, tasks: 2 }, fresh)).toMatchObject({ tasks: 1, pendingTasks: 2 });
      await flipTasks(table, 'orders', 3);
      expect(await requireConnector(table, 'orders')).toMatchObject({ tasks: 1, pendingTasks: 2, generation: 3 });
      await flipTasks(table, 'orders', 2);
      const flipped = await requireConnector(table, 'orders');
      expect(flipped).toMatchObject({ tasks: 2, generation: 4 });
      expect(flipped).not.toHaveProperty('pendingTasks');
      await flipTasks(table, 'orders', 2);
      await flipTasks(table, 'nothing', 2);
      expect(await requireConnector(table, 'orders')).toEqual(flipped);
    });

    test('the old number of tasks again is no change to wait for', async () => {
      const table = await makeTable();
      await putConnector(table, { ...spec, tasks: 2 }, fresh);
      await putConnector(table, { ...spec, tasks: 3 }, fresh);
      expect(await putConnector(table, { ...spec, tasks: 2 }, fresh)).not.toHaveProperty('pendingTasks');
      await setTarget(table, 'orders', 'stop');
      expect(await requireConnector(table, 'orders')).toMatchObject({ tasks: 2, target: 'STOPPED' });
    });

    test('a pause keeps a pending task set', async () => {
      const table = await makeTable();
      await putConnector(table, spec, fresh);
      await putConnector(table, { ...spec, tasks: 3 }, fresh);
      expect(await setTarget(table, 'orders', 'pause')).toMatchObject({ target: 'PAUSED', tasks: 1, pendingTasks: 3 });
    });

    test('another kind is refused, and nothing is written', async () => {
      const table = await makeTable();
      const created = await putConnector(table, spec, fresh);
      await expect(putConnector(table, { ...spec, kind: 'sink' }, fresh)).rejects.toMatchObject({
        code: 'STATE_CONFLICT',
      });
      expect(await requireConnector(table, 'orders')).toEqual(created);
    });

    test('pause, resume, stop; a repeated verb changes nothing', async () => {
      const table = await makeTable();
      await putConnector(table, spec, fresh);
      const steps = [
        ['resume', 'STARTED', 1],
        ['pause', 'PAUSED', 2],
        ['pause', 'PAUSED', 2],
        ['stop', 'STOPPED', 3],
        ['stop', 'STOPPED', 3],
        ['resume', 'STARTED', 4],
      ] as const;
      for (const [verb, target, generation] of steps)
        expect(await setTarget(table, 'orders', verb)).toMatchObject({ target, generation });
      await expect(setTarget(table, 'nothing', 'pause')).rejects.toMatchObject({ code: 'NOT_FOUND' });
      expect(await table.names('connector')).toEqual(['orders']);
    });

    test('changes at the same time all land', async () => {
      const table = await makeTable();
      const created = await Promise.all(
        Array.from({ length: 5 }, (_, i) => putConnector(table, spec, { incarnation: `i${i}` })),
      );
      const { incarnation } = await requireConnector(table, 'orders');
      for (const row of created) expect(row.incarnation).toBe(incarnation);
      expect((await requireConnector(table, 'orders')).generation).toBe(5);
      await Promise.all([
        putConnector(table, { ...spec, config: 'new' }, fresh),
        setTarget(table, 'orders', 'stop'),
        putConnector(table, { ...spec, config: 'new', tasks: 4 }, fresh),
      ]);
      expect(await requireConnector(table, 'orders')).toMatchObject({
        config: 'new',
        target: 'STOPPED',
        generation: 8,
      });
    });

    test('a newer row stops everybody with SHAPE_TOO_NEW and is left as it is', async () => {
      const table = await makeTable();
      await putConnector(table, spec, fresh);
      const row = { ...(await table.get(configKey('orders')))!, v: shapes.connector + 1 };
      await table.write([{ put: row }]);
      const tooNew = { code: 'SHAPE_TOO_NEW' };
      await expect(readConnector(table, 'orders')).rejects.toMatchObject(tooNew);
      await expect(putConnector(table, spec, fresh)).rejects.toMatchObject(tooNew);
      await expect(setTarget(table, 'orders', 'stop')).rejects.toMatchObject(tooNew);
      await expect(flipTasks(table, 'orders', 1)).rejects.toMatchObject(tooNew);
      expect(await table.get(row)).toEqual(row);
    });
  });
};
