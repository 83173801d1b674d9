import { beforeEach, describe, expect, it } from 'vitest';
import { deleteResource, putResource } from '../../../functions/deploy/resource.ts';
import { applyConnector } from '../../../shared/management/apply.ts';
import { readConnector, setTarget } from '../../../shared/state/connectors.ts';
import { connectorPk, offsetKey } from '../../../shared/state/keys.ts';
import { memoryTable } from '../../../shared/state/memory/table.ts';
import { recordedFunctions, specOf } from '../../kit/platform.ts';

const stack = 'arn:aws:cloudformation:eu-west-1:0:stack/Sluice/1';
const a = { stack, id: 'OrdersA' };
const b = { stack, id: 'OrdersB' };
const elsewhere = { stack: `${stack}2`, id: 'OrdersA' };
const required = { check: 'required' } as const;

describe('the connector of a resource', () => {
  let table: ReturnType<typeof memoryTable>;
  /** What each function's check answers; a function that is not here is healthy. */
  let sick: Map<string, string[]>;
  let asked: string[];
  const functions = {
    ...recordedFunctions().functions,
    request: async (name: string, event: { lifecycle?: string }) => {
      asked.push(`${event.lifecycle} ${name}`);
      return { problems: (event.lifecycle !== 'deleted' && sick.get(`${event.lifecycle} ${name}`)) || [] };
    },
  };
  const spec = (functionName: string, more: object = {}) =>
    specOf({ name: 'orders', kind: 'sink', from: ['rows'], managedBy: 'deploy', functionName, ...more });
  const put = (resource: typeof a, given: ReturnType<typeof spec>) =>
    putResource(table, functions as never, resource, given, required);
  const remove = (resource: typeof a, retain = false, name = 'orders') =>
    deleteResource(table, functions as never, resource, name, retain);
  const row = () => readConnector(table, 'orders');
  const offset = async () => {
    const { incarnation } = (await row())!;
    return table.get(offsetKey('orders', incarnation, 'p'));
  };
  const writeOffset = async () => {
    const { incarnation } = (await row())!;
    await table.write([{ put: { ...offsetKey('orders', incarnation, 'p'), v: 1 } }]);
  };

  beforeEach(() => {
    table = memoryTable();
    sick = new Map();
    asked = [];
  });

  it('is made and removed with it', async () => {
    await put(a, spec('f'));
    expect(await row()).toMatchObject({ functionName: 'f', target: 'STARTED' });
    await remove(a);
    expect(await table.query(connectorPk('orders'))).toEqual([]);
  });

  it('passes to the resource that a renamed construct is, with its offsets', async () => {
    await put(a, spec('f'));
    await writeOffset();
    await put(b, spec('g'));
    await remove(a);
    expect(await row()).toMatchObject({ functionName: 'g', target: 'STARTED' });
    expect(await offset()).toBeDefined();
    expect(asked).not.toContain('deleted f');
    // The old one is forgotten: this is now a removal.
    await remove(b);
    expect(await row()).toBeUndefined();
  });

  it('goes back with its offsets where the deploy of the rename goes back', async () => {
    await put(a, spec('f'));
    await writeOffset();
    await put(b, spec('g', { maxRecords: 7 }));
    await remove(b);
    expect(await row()).toMatchObject({ functionName: 'f', maxRecords: 5 });
    expect(await offset()).toBeDefined();
    await remove(a);
    expect(await row()).toBeUndefined();
  });

  it('is deleted by its old name when it gets another one', async () => {
    await put(a, spec('f'));
    await put(a, spec('f', { name: 'items' }));
    await remove(a);
    expect(await row()).toBeUndefined();
    expect(await readConnector(table, 'items')).toBeDefined();
    // CloudFormation may say it again.
    await remove(a);
    expect(await readConnector(table, 'items')).toBeDefined();
  });

  it('may swap names with another', async () => {
    await put(a, spec('f'));
    await put(b, spec('g', { name: 'items' }));
    await put(a, spec('f', { name: 'items' }));
    await put(b, spec('g'));
    await remove(a);
    await remove(b, false, 'items');
    expect(await row()).toMatchObject({ functionName: 'g' });
    expect(await readConnector(table, 'items')).toMatchObject({ functionName: 'f' });
  });

  it('is not taken from another stack, nor from an operator', async () => {
    await put(a, spec('f'));
    await expect(put(elsewhere, spec('g'))).rejects.toMatchObject({
      code: 'STATE_CONFLICT',
      message: expect.stringMatching(
        /connector orders belongs to the stack .*stack\/Sluice\/1: give this one another name/,
      ),
    });
    // CloudFormation deletes what it could not create.
    await remove(elsewhere);
    expect(await row()).toMatchObject({ functionName: 'f' });

    table = memoryTable();
    await applyConnector(table, functions as never, specOf({ name: 'orders', kind: 'sink', from: ['rows'] }));
    await expect(put(a, spec('g'))).rejects.toThrow('there is a connector orders already, which was not deployed');
    await remove(a);
    expect(await row()).toBeDefined();
  });

  it('stays, stopped, where its stack leaves it, and goes on in another with its offsets', async () => {
    await put(a, spec('f'));
    await writeOffset();
    await remove(a, true);
    expect(await row()).toMatchObject({ target: 'STOPPED' });
    await put(elsewhere, spec('g'));
    expect(await row()).toMatchObject({ functionName: 'g', target: 'STARTED' });
    expect(await offset()).toBeDefined();
    await remove(elsewhere);
    expect(await row()).toBeUndefined();
  });

  it('that waits for a stack stays where the deploy that wanted it fails', async () => {
    await put(a, spec('f'));
    await writeOffset();
    await remove(a, true);
    sick.set('check g', ['no such bucket']);
    await expect(put(elsewhere, spec('g'))).rejects.toMatchObject({ code: 'CHECK_FAILED' });
    await remove(elsewhere);
    expect(await offset()).toBeDefined();
  });

  it('keeps what an operator has paused', async () => {
    await put(a, spec('f'));
    await setTarget(table, 'orders', 'pause');
    await put(a, spec('f', { maxRecords: 9 }));
    expect(await row()).toMatchObject({ target: 'PAUSED', maxRecords: 9 });
  });

  it.each(['check', 'created'])('is not there when its %s finds problems, and nothing is left of it', async (step) => {
    sick.set(`${step} f`, ['no such bucket', 'no such role']);
    await expect(put(a, spec('f'))).rejects.toMatchObject({
      code: 'CHECK_FAILED',
      message: 'connector orders: no such bucket; no such role',
    });
    await remove(a);
    expect(await table.query(connectorPk('orders'))).toEqual([]);
    expect(await table.query('topic#rows')).toEqual([]);
  });

  it.each(['check', 'created'])('stays as it was when the %s of its update finds problems', async (step) => {
    await put(a, spec('f'));
    sick.set(`${step} f`, ['no such table']);
    await expect(put(a, spec('f', { maxRecords: 9, from: ['others'] }))).rejects.toMatchObject({
      code: 'CHECK_FAILED',
    });
    expect(await row()).toMatchObject({ maxRecords: 5, from: ['rows'] });
    expect((await table.query('topic#rows')).map(({ sk }) => sk)).toContain('SUB#orders');
    expect((await table.query('topic#others')).map(({ sk }) => sk)).not.toContain('SUB#orders');
  });

  it('goes back to what it was whatever its check says then', async () => {
    await put(a, spec('f'));
    await put(a, spec('f', { maxRecords: 9 }));
    sick.set('check f', ['the database is down']);
    expect(await put(a, spec('f'))).toEqual(['the database is down']);
    expect(await row()).toMatchObject({ maxRecords: 5 });
    // An update that was refused is followed by one to what there is.
    await expect(put(a, spec('f', { maxRecords: 10 }))).rejects.toMatchObject({ code: 'CHECK_FAILED' });
    expect(await put(a, spec('f'))).toEqual(['the database is down']);
  });

  it('of an earlier release, which had no owner, is its own', async () => {
    await applyConnector(table, functions as never, spec('f'));
    await writeOffset();
    await put(b, spec('g'));
    await remove(a);
    expect(await offset()).toBeDefined();
    await remove(b);
    expect(await row()).toBeUndefined();
  });
});
