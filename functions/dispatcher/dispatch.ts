import { onData } from '../../shared/connect/trigger.ts';
import type { InvokeFunction, Reason } from '../../shared/management/ports.ts';
import { type ConnectorRow, readConnector } from '../../shared/state/connectors.ts';
import { subscriptionPrefix, topicPk } from '../../shared/state/keys.ts';
import { isHeld, readTask } from '../../shared/state/lease.ts';
import type { Table } from '../../shared/state/table.ts';

/** The keys of a stream record; the stream carries no more. */
export interface ChangedKey {
  readonly pk: string;
  readonly sk: string;
  readonly sequenceNumber: string;
}

interface Target {
  readonly connector: string;
  readonly task: number;
  readonly reason: Reason;
}

/** A holder whose lease lasts this much longer will look again after it releases (invariant 9), so it need not be woken. */
const skipHeldMs = 5_000;

/**
 * Wakes the tasks that a window of changes concerns, once each: the readers of a topic for a new segment, the task itself for its WAKE
 * row. Returns the sequence numbers of the changes whose task could not be invoked: the stream brings them again.
 */
export const dispatch = async (
  table: Table,
  functions: InvokeFunction,
  changes: readonly ChangedKey[],
  nowMs: number,
): Promise<readonly string[]> => {
  const wanted = new Map<string, Target & { sequences: string[] }>();
  const rows = readOnce((connector) => readConnector(table, connector));
  const readers = readOnce((topic) => subscribers(table, topic));
  for (const change of changes)
    for (const target of await targetsOf(change, readers, rows)) {
      const id = `${target.connector}#${target.task}`;
      const entry = wanted.get(id) ?? { ...target, sequences: [] };
      entry.sequences.push(change.sequenceNumber);
      wanted.set(id, entry);
    }
  const failed = await Promise.all(
    [...wanted.values()].map(async ({ sequences, ...target }) => {
      try {
        await wake(table, functions, await rows(target.connector), target, nowMs);
        return [];
      } catch {
        // Not swallowed: the stream re-delivers what is named here, and gives up to the sweep.
        return sequences;
      }
    }),
  );
  return failed.flat();
};

type ReadOnce<T> = (name: string) => Promise<T>;

/** A window is short: what was read for one of its changes is good for the others. */
const readOnce = <T>(read: ReadOnce<T>): ReadOnce<T> => {
  const known = new Map<string, Promise<T>>();
  return (name) => {
    const found = known.get(name) ?? read(name);
    known.set(name, found);
    return found;
  };
};

const targetsOf = async (
  { pk, sk }: ChangedKey,
  readers: ReadOnce<readonly string[]>,
  rows: ReadOnce<ConnectorRow | undefined>,
): Promise<readonly Target[]> => {
  const [kind, name, , queue] = pk.split('#');
  if (name === undefined) return [];
  if (kind === 'connector')
    return sk.startsWith('WAKE#') ? [{ connector: name, task: Number(sk.slice(5)), reason: 'wake' }] : [];
  if (kind !== 'log') return [];
  const connectors = await readers(name);
  const targets = connectors.map(async (connector) => {
    const row = await rows(connector);
    return row === undefined ? [] : [{ connector, task: Number(queue) % row.tasks, reason: 'data' as const }];
  });
  return (await Promise.all(targets)).flat();
};

const subscribers = async (table: Table, topic: string): Promise<readonly string[]> => {
  const items = await table.query(topicPk(topic), { from: subscriptionPrefix, to: `${subscriptionPrefix}\uffff` });
  return items.map((item) => String(item.connector));
};

const wake = async (
  table: Table,
  functions: InvokeFunction,
  row: ConnectorRow | undefined,
  { connector, task, reason }: Target,
  nowMs: number,
): Promise<void> => {
  if (row === undefined || row.target !== 'STARTED' || task >= row.tasks) return;
  if (reason === 'data' && row.trigger !== onData) return;
  const lease = await readTask(table, connector, task);
  if (lease.state === 'FAILED' || isHeld(lease, nowMs + skipHeldMs)) return;
  await functions.event(row.functionName, { connector, task, reason });
};
