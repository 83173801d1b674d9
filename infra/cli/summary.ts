import { isAbsolute, relative } from 'node:path';
import type { ConnectorState } from '../../shared/management/status.ts';
import type { ConnectorRow } from '../../shared/state/connectors.ts';
import type { Drained } from './drain.ts';
import type { Meter } from './meter.ts';
import { type Answer, bytes, count, exitCodes, seconds, tableLines } from './output.ts';

/** What a run to the end did: what went where, what failed, what it would have cost on AWS, and what to do next. */
export const summarize = ({ states, failed }: Drained, meter: Meter, ms: number, next: readonly string[]): Answer => {
  const connectors = states.map((state) => ({
    name: state.row.name,
    kind: state.row.kind,
    ...flowOf(state.row),
    ...meter.moved(state.row.name),
    total: state.tasks.reduce((sum, { row: { records } }) => sum + records, 0),
    failures: failed.includes(state) ? failuresOf(state) : [],
  }));
  const rows = connectors.map(({ name, from, to, records, bytes: size, total }) => [
    name,
    `${from} → ${to}`,
    count(records),
    bytes(size),
    count(total),
  ]);
  const end = failed.length === 0 ? 'drained' : `${failed.length} of ${states.length} connectors failed`;
  return {
    lines: [
      '',
      ...tableLines(['connector', 'moved', 'records', 'bytes', 'in all'], rows),
      ...connectors.flatMap(({ failures }) => failures),
      '',
      `${end} in ${seconds(ms)}; ${meter.summary()}`,
      ...(failed.length === 0 ? next.map((command) => `next: ${command}`) : []),
    ],
    result: { connectors, ms, ...meter.figures() },
    exitCode: failed.length === 0 ? exitCodes.ok : exitCodes.failed,
  };
};

/** Both ends of a connector, in words. References to secrets stay references. */
const flowOf = ({
  kind,
  plugin,
  sinkPlugin,
  config,
  sinkConfig,
  from,
  to,
}: ConnectorRow): { from: string; to: string } => ({
  from: from?.join(', ') ?? placeOf(plugin, config),
  to:
    kind === 'sink'
      ? placeOf(plugin, config)
      : kind === 'direct'
        ? placeOf(sinkPlugin, sinkConfig)
        : (to ?? []).map(({ name }) => name).join(', '),
});

/** The system, and the part of its config that says where. */
const placeOf = (plugin: string | undefined, config: unknown): string => {
  const { path, url, host, database } = config as { path?: string; url?: string; host?: string; database?: string };
  const file = path === undefined ? undefined : isAbsolute(path) ? relative(process.cwd(), path) || '.' : path;
  const shown = file !== undefined && path !== undefined && file.startsWith('..') ? path : file;
  return [plugin, shown ?? url?.replace(/\/\/[^@/]*@/, '//') ?? [host, database].filter(Boolean).join('/')]
    .filter(Boolean)
    .join(' ');
};

const failuresOf = ({ row, tasks }: ConnectorState): readonly string[] =>
  tasks.flatMap(({ task, row: { trace } }) =>
    trace === undefined ? [] : [`${row.name} task ${task} failed: ${trace}`],
  );
