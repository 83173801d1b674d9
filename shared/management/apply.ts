import { randomUUID } from 'node:crypto';
import type { ConnectorSpec } from '../connect/spec.ts';
import { declareTopic, ensureTopic } from '../log/topics.ts';
import { type ConnectorRow, deleteConnector, putConnector, readConnector } from '../state/connectors.ts';
import { connectorPk, subscriptionKey } from '../state/keys.ts';
import type { Table } from '../state/table.ts';
import type { InvokeFunction } from './ports.ts';
import { wakeTasks } from './tasks.ts';

/**
 * Creates or updates a connector: its topics, its row, its subscriptions, its upstream leftovers (`created`, in its own function), then
 * a first run. One code path for the deploy, the CLI and REST. Every step can be repeated. Returns what `check` found: a system that
 * can't be reached yet does not stop a deploy, it is told.
 */
export const applyConnector = async (
  table: Table,
  functions: InvokeFunction,
  spec: ConnectorSpec,
): Promise<{ row: ConnectorRow; problems: readonly string[] }> => {
  const before = await readConnector(table, spec.name);
  for (const { name, queues, retentionMs } of spec.to ?? []) await declareTopic(table, name, { queues, retentionMs });
  if (spec.errors.deadLetterTopic !== undefined) await ensureTopic(table, spec.errors.deadLetterTopic);
  const row = await putConnector(table, spec, { incarnation: randomUUID() });
  await subscribe(table, spec.name, spec.from ?? []);
  const dropped = (before?.from ?? []).filter((topic) => !spec.from?.includes(topic));
  await unsubscribe(table, spec.name, dropped);
  const problems = [...(await ask(functions, row, 'check')), ...(await ask(functions, row, 'created'))];
  // Whoever chose `manual` chose the moment, too.
  if (row.trigger !== 'manual') await wakeTasks(functions, row, 'manual');
  return { row, problems };
};

/**
 * Removes a connector: `deleted` runs in its own function first, because it has the network and the secret; what it could not remove
 * upstream is returned, and does not block. Its offsets go with it.
 */
export const removeConnector = async (
  table: Table,
  functions: InvokeFunction,
  name: string,
): Promise<readonly string[]> => {
  const row = await readConnector(table, name);
  const problems = row === undefined ? [] : await ask(functions, row, 'deleted');
  await unsubscribe(table, name, row?.from ?? []);
  // The row first: a run in progress finds it gone and stops; what it still commits lies under an incarnation that nobody reads.
  await deleteConnector(table, name);
  // Also where the row was gone before: a removal that died left its tasks, and a failed one would block a new connector's.
  const left = await table.query(connectorPk(name));
  for (let at = 0; at < left.length; at += 100)
    await table.write(left.slice(at, at + 100).map(({ pk, sk }) => ({ delete: { pk, sk } })));
  return problems;
};

const ask = async (
  functions: InvokeFunction,
  row: ConnectorRow,
  lifecycle: 'check' | 'created' | 'deleted',
): Promise<readonly string[]> => {
  try {
    const answer = (await functions.request(row.functionName, { connector: row.name, lifecycle })) as {
      problems?: readonly string[];
    };
    return answer.problems ?? [];
  } catch (thrown) {
    return [`${lifecycle} did not run: ${(thrown as Error).message}`];
  }
};

const subscribe = async (table: Table, connector: string, topics: readonly string[]): Promise<void> => {
  for (const topic of topics) await table.write([{ put: { ...subscriptionKey(topic, connector), connector } }]);
};

const unsubscribe = async (table: Table, connector: string, topics: readonly string[]): Promise<void> => {
  for (const topic of topics) await table.write([{ delete: subscriptionKey(topic, connector) }]);
};
