import { batchOfGroups } from '../../shared/connect/batch.ts';
import type { SinkTask, SourceTask } from '../../shared/connect/connector.ts';
import { ConnectorSpec } from '../../shared/connect/spec.ts';
import type { Transform } from '../../shared/connect/transform.ts';
import { onData } from '../../shared/connect/trigger.ts';
import { logSink } from '../../shared/log/append.ts';
import { memoryObjects, type ObjectStore } from '../../shared/log/objects.ts';
import { logSource } from '../../shared/log/read.ts';
import type { ConnectorEvent, InvokeFunction } from '../../shared/management/ports.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import { type RunRequest, type RunResult, runTask } from '../../shared/runtime/run.ts';
import { type ConnectorRow, isCurrent, readConnector } from '../../shared/state/connectors.ts';
import { memoryTable } from '../../shared/state/memory/table.ts';
import type { Table } from '../../shared/state/table.ts';
import { faultyObjects, faultySink, faultySource, faultyTable, type Process } from './faults.ts';
import { manualClock } from './world.ts';

/** How long a run of the test platform holds its lease at most. */
export const leaseMs = 60_000;

/** A spec with everything that a test does not care about filled in. */
export const specOf = (spec: Partial<ConnectorSpec> & Pick<ConnectorSpec, 'name' | 'kind'>): ConnectorSpec =>
  ConnectorSpec.parse({
    functionName: `function-${spec.name}`,
    trigger: onData,
    managedBy: 'rest',
    maxRecords: 5,
    ...spec,
  });

/** Functions that are only written down. `answer` is what lifecycle requests get. */
export const recordedFunctions = (answer: () => unknown = () => ({ problems: [] })) => {
  const events: ConnectorEvent[] = [];
  const requests: ConnectorEvent[] = [];
  const functions: InvokeFunction = {
    event: async (_, payload) => void events.push(payload),
    async request(_, payload) {
      requests.push(payload);
      return answer();
    },
  };
  /** The tasks that were invoked since the last look, as `connector#task reason`. */
  const invoked = () =>
    events.splice(0).map((event) => {
      if ('task' in event) return `${event.connector}#${event.task} ${event.reason}`;
      return 'lifecycle' in event ? event.lifecycle : event.verify.step;
    });
  return { functions, invoked, requests };
};

/** A connector's own end; the other one is the topic log, as its kind says. */
export interface Plugin {
  source?(row: ConnectorRow, task: number, process: Process): SourceTask<never> | SourceTask<unknown>;
  sink?(row: ConnectorRow, task: number, process: Process): SinkTask;
}

/** What a processor's function does: all its records go to its topic. */
export const routeTo = (topic: string): Transform => ({
  name: 'route',
  stage: 'TRANSFORMATION',
  apply: (batch) => ({ batch: batchOfGroups(batch.groups.map((group) => ({ ...group, topic }))) }),
});

export const alive: Process = { op: (_, call) => call() };

/** Connectors on one table: what `shared/lambda` makes of a row and an invocation, without Lambda. */
export const createPlatform = ({
  table = memoryTable(),
  objects = memoryObjects(),
  clock = manualClock(),
}: {
  table?: Table;
  objects?: ObjectStore;
  clock?: ReturnType<typeof manualClock>;
} = {}) => {
  const plugins = new Map<string, Plugin>();
  let ids = 0;
  const newId = () => `id-${String(ids++).padStart(6, '0')}`;

  /** One invocation, in a process of its own. */
  const invoke = async (
    name: string,
    task: number,
    process: Process = alive,
    overrides: Partial<RunRequest> = {},
    now: Clock = clock,
  ): Promise<RunResult | { readonly outcome: 'idle' }> => {
    const gated = faultyTable(table, process);
    const gatedObjects = faultyObjects(objects, process);
    const row = await readConnector(gated, name);
    if (row === undefined || !isCurrent(row, row, task)) return { outcome: 'idle' };
    const identity = { connector: name, incarnation: row.incarnation, deployment: 'test' };
    const plugin = plugins.get(name) ?? {};
    const log = { table: gated, objects: gatedObjects, now: now.now };
    return runTask({
      identity,
      taskId: task,
      requestId: newId(),
      table: gated,
      budget: { maxRecords: row.maxRecords, maxBytes: row.maxBytes },
      errors: row.errors,
      transforms: row.kind === 'processor' ? [routeTo(row.to![0]!.name)] : [],
      openSource: async () =>
        faultySource(
          (plugin.source?.(row, task, process) ??
            logSource({
              ...log,
              topics: row.from ?? [],
              subscriber: name,
              task,
              tasks: row.tasks,
            })) as SourceTask<unknown>,
          process,
        ),
      openSink: async () =>
        faultySink(plugin.sink?.(row, task, process) ?? logSink({ ...log, owner: identity, newId }), process),
      stillCurrent: async () => isCurrent(row, await readConnector(gated, name), task),
      stop: new AbortController().signal,
      abort: new AbortController().signal,
      leaseExpiresAtMs: now.now() + leaseMs,
      clock: now,
      newId,
      log: () => {},
      ...overrides,
    });
  };

  return { table, objects, clock, plugins, newId, invoke };
};
