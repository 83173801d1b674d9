import type { InvokeFunction } from '../../shared/management/ports.ts';
import type { ConnectorState } from '../../shared/management/status.ts';
import { wakeTasks } from '../../shared/management/tasks.ts';
import type { Log } from '../../shared/runtime/run.ts';
import { setHeld } from '../../shared/state/connectors.ts';
import type { Table } from '../../shared/state/table.ts';
import type { Unread } from './unread.ts';

/**
 * Holds who writes a topic of which more is unread than its `maxBacklog`, and lets them go on below half of it. Returns what an operator
 * must know: connectors that can't be held, because their upstream would fill up instead (hazard B16).
 */
export const holdWriters = async (
  table: Table,
  functions: InvokeFunction,
  states: readonly ConnectorState[],
  unread: readonly Unread[],
  log: Log,
): Promise<readonly string[]> => {
  const alarms: string[] = [];
  const unreadOf = (topic: string) => unread.filter(({ partition }) => partition.topic === topic);
  const bytesOf = (topic: string) => unreadOf(topic).reduce((sum, { bytes }) => sum + bytes, 0);
  for (const { row } of states) {
    const limited = (row.to ?? []).flatMap(({ name, maxBacklogBytes }) =>
      maxBacklogBytes === undefined ? [] : [{ name, limit: maxBacklogBytes, bytes: bytesOf(name) }],
    );
    const over = limited.find(({ limit, bytes }) => bytes > limit);
    if (over !== undefined && row.held === undefined) {
      const slow = [...new Set(unreadOf(over.name).flatMap(({ readers }) => readers))].join(', ');
      const what = `${over.bytes} bytes of topic ${over.name} are unread, more than its maxBacklog of ${over.limit}: ${slow} must catch up`;
      if (row.hold === false) {
        alarms.push(`${what}; ${row.name} writes on, because its upstream would fill up`);
        continue;
      }
      await setHeld(table, row.name, over.name);
      log('warn', `${what}; ${row.name} is held until half of it is read`, { connector: row.name });
    }
    if (row.held === undefined || limited.some(({ limit, bytes }) => bytes * 2 >= limit)) continue;
    const freed = await setHeld(table, row.name, undefined);
    log('info', `${row.name} goes on`, { connector: row.name });
    if (freed?.target === 'STARTED') await wakeTasks(functions, freed, 'sweep');
  }
  return alarms;
};
