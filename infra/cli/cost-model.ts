import { objectDays } from '../../shared/connect/retention.ts';
import type { ConnectorSpec } from '../../shared/connect/spec.ts';
import { addUsage, type Usage } from './prices.ts';

/** What the estimate knows of a connector: its spec, its function, and what starts it. */
export interface ModelledConnector {
  readonly spec: ConnectorSpec;
  readonly memoryMb: number;
  readonly timeoutMs: number;
  /** Of all its tasks together. */
  readonly scheduledRunsPerMonth: number;
  /** Objects or messages wake it besides. */
  readonly wokenByEvents: boolean;
}

export interface Volume {
  readonly rowsPerDay: number;
  readonly rowBytes: number;
}

/**
 * What was measured (bench/RESULTS.md), and what is assumed where only AWS could tell. The test that runs the model beside a real run
 * holds the units; times on AWS are longer than here, so they are rounded up.
 */
const measured = {
  /** An invocation that finds nothing: three reads of about 5 ms. */
  idleMs: 25,
  /** Lease, first read, release. */
  runMs: 80,
  commitMs: 30,
  /** CPU of either side of the log, at a full core of 1,769 MB. */
  cpuMsPerThousandRows: 5,
  /** Reads of a source that finds nothing: its row, its offsets. */
  idleReads: 2,
  /** Reads of a run, its lease included: one that reads the log looks at every queue of its topics. */
  runReads: 6,
  readerRunReads: 8,
  /** The lease is written when it is taken and when it is released. */
  leaseWrites: 2,
  /** A sink's commit: staged files before and after, or the copy of an offset that the destination owns. */
  sinkCommitWrites: 5,
  /** Of the coordinator, each minute: the list of connectors, and for each its row, tasks, offsets and heads; eventual. */
  sweepMs: 60,
  sweepReads: 0.5,
  sweepReadsPerConnector: 2.5,
  /** A source of changes that is asked how far it is behind: three connections to its database, its row and offsets, its answer. */
  lagMs: 200,
  lagReads: 2,
  lagsPerMonth: 30 * 24 * 6,
  dispatchMs: 30,
  dispatchReadsPerReader: 3,
  compression: 5,
  /** A full batch: 20,000 rows or 8 MB. */
  batchRows: 20_000,
  batchBytes: 8e6,
  /** Above it a batch goes to an object. */
  inlineBytes: 5_000,
  /** What Lambda writes of an invocation by itself, and the line of a run. */
  invocationLogBytes: 350,
  runLogBytes: 350,
  rowsPerObject: 10_000,
  platformMemoryMb: 256,
} as const;

const minutesPerMonth = 30 * 24 * 60;

/** What a month of 30 days uses, connector by connector, and what they share. */
export const usageOf = (
  connectors: readonly ModelledConnector[],
  volume: Volume,
): { readonly byConnector: ReadonlyMap<string, Usage>; readonly shared: Usage } => {
  const flows = flowsOf(connectors, volume);
  const byConnector = new Map(
    connectors.map((connector) => [connector.spec.name, connectorUsage(connector, flows, volume)]),
  );
  const commits = [...flows.values()].filter(({ writesLog }) => writesLog);
  const wakes = commits.reduce((sum, flow) => sum + flow.commits, 0);
  const shared = addUsage(
    {
      invocations: minutesPerMonth,
      scheduled: minutesPerMonth,
      gbSeconds: gbSeconds(minutesPerMonth, measured.sweepMs, measured.platformMemoryMb),
      readUnits: minutesPerMonth * (measured.sweepReads + connectors.length * measured.sweepReadsPerConnector),
      logGb: (minutesPerMonth * measured.invocationLogBytes) / 1e9,
      alarms: 1,
      secrets: secretsOf(connectors).size,
    },
    {
      invocations: wakes,
      gbSeconds: gbSeconds(wakes, measured.dispatchMs, measured.platformMemoryMb),
      readUnits: wakes * measured.dispatchReadsPerReader * Math.max(1, readersOf(connectors)),
      logGb: (wakes * measured.invocationLogBytes) / 1e9,
    },
  );
  return { byConnector, shared };
};

/** A secret costs by itself, however many read it. */
const secretsOf = (connectors: readonly ModelledConnector[]): ReadonlySet<string> =>
  new Set(connectors.flatMap(({ spec }) => JSON.stringify(spec).match(/\$\{secretsmanager:[^}:]+/g) ?? []));

/** What moves through a connector in a month. */
interface Flow {
  readonly rows: number;
  /** Runs that find something. */
  readonly runs: number;
  readonly commits: number;
  readonly writesLog: boolean;
}

const flowsOf = (connectors: readonly ModelledConnector[], { rowsPerDay, rowBytes }: Volume): Map<string, Flow> => {
  const flows = new Map<string, Flow>();
  const origins = connectors.filter(({ spec }) => spec.from === undefined);
  const rowsEach = (rowsPerDay * 30) / Math.max(1, origins.length);
  const batchRows = Math.min(measured.batchRows, measured.batchBytes / rowBytes);
  const flowOf = (connector: ModelledConnector, rows: number, upstream: number): Flow => {
    const runs = rows === 0 ? 0 : Math.min(rows, runsOf(connector, rows, rowBytes, upstream));
    const commits = Math.max(runs, rows / batchRows);
    return { rows, runs, commits, writesLog: connector.spec.to !== undefined };
  };
  for (const connector of origins) flows.set(connector.spec.name, flowOf(connector, rowsEach, 0));
  // Processors feed each other: each is looked at once what it reads is known.
  let waiting = connectors.filter(({ spec }) => spec.from !== undefined);
  while (waiting.length > 0) {
    const ready = waiting.filter(({ spec }) =>
      waiting.every(
        (other) => other.spec === spec || !(other.spec.to ?? []).some(({ name }) => spec.from!.includes(name)),
      ),
    );
    if (ready.length === 0) break;
    for (const connector of ready) {
      const writers = connectors.filter(({ spec }) =>
        (spec.to ?? []).some(({ name }) => connector.spec.from!.includes(name)),
      );
      const upstream = writers.map(({ spec }) => flows.get(spec.name)!);
      const rows = upstream.reduce((sum, flow) => sum + flow.rows, 0);
      flows.set(
        connector.spec.name,
        flowOf(
          connector,
          rows,
          upstream.reduce((sum, flow) => sum + flow.runs, 0),
        ),
      );
    }
    waiting = waiting.filter((connector) => !ready.includes(connector));
  }
  return flows;
};

/** How often it finds something to do. */
const runsOf = (connector: ModelledConnector, rows: number, rowBytes: number, upstream: number): number => {
  const { spec, scheduledRunsPerMonth: scheduled, wokenByEvents, timeoutMs } = connector;
  if (spec.continuous) return (minutesPerMonth * 60_000 * spec.tasks) / timeoutMs;
  if (spec.backlog !== undefined)
    return Math.max((rows * rowBytes) / spec.backlog.bytes, (minutesPerMonth * 60_000) / spec.backlog.atMostMs);
  if (wokenByEvents) return Math.max(1, rows / measured.rowsPerObject);
  return spec.from !== undefined && scheduled === 0 ? Math.max(upstream, 1) : Math.max(scheduled, 1);
};

const readersOf = (connectors: readonly ModelledConnector[]): number =>
  connectors.filter(({ spec }) => spec.from !== undefined).length;

const gbSeconds = (times: number, ms: number, memoryMb: number): number => (times * ms * memoryMb) / 1000 / 1024;

const connectorUsage = (
  connector: ModelledConnector,
  flows: ReadonlyMap<string, Flow>,
  { rowBytes }: Volume,
): Usage => {
  const { spec, memoryMb, scheduledRunsPerMonth: scheduled } = connector;
  const { rows, runs, commits } = flows.get(spec.name) ?? { rows: 0, runs: 0, commits: 0 };
  const idle = spec.continuous ? scheduled : Math.max(0, scheduled - (spec.from === undefined ? runs : 0));
  // Lambda gives a share of a core by memory, so that the CPU costs the same whatever it is.
  const cpuMs = ((rows / 1000) * measured.cpuMsPerThousandRows * 1769) / memoryMb;
  const activeMs = spec.continuous
    ? minutesPerMonth * 60_000 * spec.tasks
    : runs * measured.runMs + commits * measured.commitMs + cpuMs;
  return addUsage(
    {
      invocations: idle + runs,
      scheduled,
      gbSeconds: gbSeconds(idle, measured.idleMs, memoryMb) + (activeMs / 1000) * (memoryMb / 1024),
      readUnits:
        idle * measured.idleReads +
        runs * (spec.from === undefined ? measured.runReads : measured.readerRunReads) +
        commits,
      writeUnits: runs * measured.leaseWrites,
      logGb: ((idle + runs) * measured.invocationLogBytes + runs * measured.runLogBytes) / 1e9,
    },
    spec.lag === true ? lagUsage(memoryMb) : {},
    listsObjects(spec) ? { objectWrites: idle + runs, objectReads: runs } : {},
    spec.from === undefined ? {} : readingUsage(rows, commits, rowBytes),
    spec.to === undefined
      ? { writeUnits: commits * measured.sinkCommitWrites }
      : writingUsage(spec, rows, commits, rowBytes),
  );
};

const lagUsage = (memoryMb: number): Usage => {
  const { lagsPerMonth: times, lagMs, lagReads, invocationLogBytes, runLogBytes } = measured;
  return {
    invocations: times,
    gbSeconds: gbSeconds(times, lagMs, memoryMb),
    readUnits: times * lagReads,
    writeUnits: times,
    logGb: (times * (invocationLogBytes + runLogBytes)) / 1e9,
  };
};

/** A source of objects lists them in every run, which S3 bills as a write. */
const listsObjects = ({ kind, config }: ConnectorSpec): boolean =>
  kind === 'source' && String((config as { readonly path?: unknown }).path ?? '').startsWith('s3://');

/** Segments and heads in one transaction with the offset: two units each, bodies beside them where they are large. */
const writingUsage = (spec: ConnectorSpec, rows: number, commits: number, rowBytes: number): Usage => {
  if (commits === 0) return {};
  const topic = spec.to![0]!;
  const { queues, retentionMs } = topic;
  const bodyBytes = ((rows / commits) * rowBytes) / measured.compression;
  const inObject = bodyBytes > measured.inlineBytes;
  const lanes = Math.min(queues, Math.max(1, rows / commits));
  const segmentUnits = inObject ? 2 : 2 * Math.ceil((bodyBytes / lanes + 400) / 1024);
  const storedGb = (rows * rowBytes) / measured.compression / 1e9;
  return {
    writeUnits: commits * (lanes * (2 + segmentUnits) + 2),
    ...(inObject
      ? { objectWrites: commits, objectGbMonths: (storedGb * objectDays(topic)) / 30 }
      : { tableGbMonths: (storedGb * retentionMs) / 86_400_000 / 30 }),
  };
};

const readingUsage = (rows: number, commits: number, rowBytes: number): Usage => {
  if (commits === 0) return {};
  const bodyBytes = ((rows / commits) * rowBytes) / measured.compression;
  return bodyBytes > measured.inlineBytes
    ? { objectReads: commits, readUnits: commits }
    : { readUnits: commits * Math.max(1, bodyBytes / 4096) };
};
