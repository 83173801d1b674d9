import { ConnectError } from '../../shared/connect/errors.ts';
import { lambdaInvoker } from '../../shared/lambda/invoke.ts';
import type { InvokeFunction } from '../../shared/management/ports.ts';
import { snapshotProgress } from '../../shared/sql/snapshot.ts';
import { type ConnectorRow, requireConnector } from '../../shared/state/connectors.ts';
import { dynamoTable } from '../../shared/state/dynamodb/table.ts';
import type { Table } from '../../shared/state/table.ts';
import { connectorName } from '../constructs/connector-name.ts';
import { loadPipelineFile } from '../pipeline-file.ts';
import { modelAt, modelOf } from './estimate.ts';
import { type Answer, count, exitCodes, writeLine } from './output.ts';
import { clientAt, findTable, lambdaAt, openPlatform, type Place } from './platform.ts';
import { startLocal } from './run.ts';
import { asker, type Edge, edgesOf, type TablePair, tablesOf } from './verify-edges.ts';
import { repairKeys } from './verify-repair.ts';
import { type Difference, type Settle, settleKeys } from './verify-settle.ts';
import { compareTables, settleTables, type TableResult, verifyTables } from './verify-table.ts';
import { awaitEndOfRun, passedBy, stateOf, type Waiting } from './verify-wait.ts';

export interface VerifyOptions extends Place {
  readonly json?: boolean;
  /** What writes into the destination, by name, where no file says it. */
  readonly connector?: readonly string[];
  /** Only this table of the source. */
  readonly table?: string;
  /** Show what differs; it may be private. */
  readonly values?: boolean;
  /** Have the source send the rows that differ again. */
  readonly repair?: boolean;
}

/** 0: equal. 1: different. 2: could not be compared. */
const verifyCodes = { equal: exitCodes.ok, different: 1, could_not: 2 } as const;

interface Platform extends AsyncDisposable {
  readonly table: Table;
  readonly functions: InvokeFunction;
  /** Where the cloud assembly of the file is, if this has synthesized it. */
  readonly assembly?: string;
}

/** Compares the rows of a pipeline's sources with those of its sinks, while it runs. */
export const verify = async (
  file: string | undefined,
  options: VerifyOptions,
  signal: AbortSignal,
): Promise<Answer> => {
  try {
    return await verifyAll(file, options, signal);
  } catch (thrown) {
    if (!(thrown instanceof ConnectError)) throw thrown;
    const { code, message } = thrown;
    if (!options.json) process.stderr.write(`sluice verify: ${message}\n`);
    return { lines: [], result: { error: { code, message } }, exitCode: verifyCodes.could_not };
  }
};

const verifyAll = async (file: string | undefined, options: VerifyOptions, signal: AbortSignal): Promise<Answer> => {
  const { connector = [] } = options;
  if (file === undefined && connector.length === 0)
    throw new ConnectError(
      'CONFIG_INVALID',
      'say what to compare: the file of a pipeline, or --connector with the name of a sink or a direct connector',
    );
  const what = file ?? connector.join(', ');
  await using platform = await platformOf(file, options);
  const names = file === undefined ? new Set(connector) : await writersOf(file, platform.assembly);
  const rows = await rowsOf(platform.table, names);
  const results: (TablePair & { readonly edge: Edge; readonly result: TableResult })[] = [];
  for (const edge of edgesOf(rows, names)) {
    const ask = asker(platform.functions, edge);
    const waiting = { ...platform, edge, ask, signal };
    const { pairs: all, ofChanges } = await tablesOf(ask, edge);
    if (options.repair === true && !ofChanges) throw noRepair(edge);
    const pairs = all.filter(({ table }) => options.table === undefined || table.table === options.table);
    const settle = { passed: passedBy(waiting), values: options.values === true };
    // By queries all tables together, because to pass a place may be to read all of them again; else each by itself, lest their rows
    // change while others are looked at.
    for (const some of ofChanges ? pairs.map((pair) => [pair]) : [pairs]) {
      if (ofChanges) for (const pair of some) await requireRead(waiting, pair);
      for (const [i, found] of (await verifyTables(ask, some, settle)).entries()) {
        const pair = some[i]!;
        if (!options.json) for (const line of linesOf(pair, found)) writeLine(line);
        const result = options.repair === true ? await repaired(waiting, pair, settle, found, options) : found;
        results.push({ ...pair, edge, result });
      }
    }
  }
  if (results.length === 0)
    throw new ConnectError(
      'NOT_FOUND',
      options.table === undefined
        ? `${what} has no table to compare`
        : `no source of ${what} reads a table ${options.table}`,
    );
  return answerOf(results);
};

/** What of a file writes into destinations, by name. Of a program that is known when it is synthesized. */
const writersOf = async (file: string, assembly: string | undefined): Promise<ReadonlySet<string>> => {
  if (/\.[jt]s$/.test(file)) {
    const connectors = assembly === undefined ? await modelOf([file]) : await modelAt(assembly);
    return new Set(
      connectors.flatMap(({ spec: { kind, name } }) => (kind === 'sink' || kind === 'direct' ? name : [])),
    );
  }
  const { name, sinks, direct } = loadPipelineFile(file);
  return new Set(Object.keys({ ...sinks, ...direct }).map((node) => connectorName(name, node)));
};

/** The one that runs here, or one that runs for as long as this takes. */
const platformOf = async (file: string | undefined, options: VerifyOptions): Promise<Platform> => {
  const { state, json } = options;
  const running = await openPlatform(options);
  if (running.running) return { ...running, [Symbol.asyncDispose]: () => running.close() };
  await running.close();
  if (file === undefined)
    throw new ConnectError('CONFIG_INVALID', 'no `sluice dev` runs here: name the file of the pipeline, to start it');
  await using opened = new AsyncDisposableStack();
  const { host, assembly } = opened.use(await startLocal([file], state, json ? () => {} : writeLine, { drain: true }));
  const client = opened.adopt(clientAt(host.dynamodb.endpoint), (it) => it.destroy());
  const lambda = opened.adopt(lambdaAt(host.lambdaEndpoint), (it) => it.destroy());
  const table = dynamoTable({ client, tableName: await findTable(client) });
  const all = opened.move();
  return { table, functions: lambdaInvoker(lambda), assembly, [Symbol.asyncDispose]: () => all.disposeAsync() };
};

/** All rows, once those of the pipeline are there. */
const rowsOf = async (table: Table, names: ReadonlySet<string>): Promise<readonly ConnectorRow[]> => {
  for (const name of names) await requireConnector(table, name);
  return Promise.all((await table.names('connector')).map((name) => requireConnector(table, name)));
};

const noRepair = ({ source: { name, plugin } }: Edge): ConnectError =>
  new ConnectError(
    'CONFIG_INVALID',
    `${plugin} can't be told to send single rows again: \`sluice offsets reset ${name}\`, while it is stopped, has it read all of them again`,
  );

/** Rows that the first reading has yet to bring are no differences. */
const requireRead = async (waiting: Waiting, { table: { table } }: TablePair): Promise<void> => {
  const { name } = waiting.edge.source;
  if (await isRead(waiting, table)) return;
  await awaitEndOfRun(waiting);
  if (await isRead(waiting, table)) return;
  throw new ConnectError(
    'STATE_CONFLICT',
    `${name} has not read all of ${table} yet: run the pipeline first, \`sluice status\` shows how far it is`,
  );
};

const isRead = async ({ table, edge }: Waiting, name: string): Promise<boolean> => {
  const { offsets } = (await stateOf(table, edge.source.name)).progress;
  return offsets.length > 0 && snapshotProgress(offsets).find((one) => one.table === name)?.done !== false;
};

/** The rows that differ are sent again, and looked at again. Where there are more than were listed, all of it once more. */
const repaired = async (
  waiting: Waiting,
  pair: TablePair,
  settle: Settle,
  found: TableResult,
  { json }: VerifyOptions,
): Promise<RepairedTable> => {
  let result = found;
  let sent = 0;
  while (result.differences.length > 0) {
    const keys = result.differences.map(({ key }) => key);
    await repairKeys(waiting, pair.table.table, keys);
    const [settled] = await settleKeys(waiting.ask, [{ pair, keys }], settle);
    const { differences, unsettled } = settled!;
    sent += keys.length - differences.length;
    const isDone = !result.more || differences.length === keys.length;
    if (isDone) {
      result = { ...result, differences, unsettled: [...result.unsettled, ...unsettled] };
      break;
    }
    result = (await settleTables(waiting.ask, await compareTables(waiting.ask, [pair]), settle))[0]!;
  }
  if (!json && sent > 0)
    writeLine(
      `  ${count(sent)} repaired${result.differences.length > 0 ? `, ${count(result.differences.length)} still differ` : ''}`,
    );
  return { ...result, repaired: sent };
};

interface RepairedTable extends TableResult {
  /** So many rows are equal now that were sent again. */
  readonly repaired: number;
}

const shownDifferences = 20;

const linesOf = ({ table: { table }, destination }: TablePair, result: TableResult): readonly string[] => {
  const { rows, differences, inFlight, kept, unsettled, more } = result;
  const numbers = [
    `${count(rows.source)} rows`,
    ...(rows.source === rows.destination ? [] : [`${count(rows.destination)} there`]),
    ...(inFlight === 0 ? [] : [`${count(inFlight)} were on their way`]),
    ...(kept === 0 ? [] : [`${count(kept)} are only there, where deleted rows stay`]),
    ...(unsettled.length === 0 ? [] : [`${count(unsettled.length)} change too often to compare`]),
    differences.length === 0 ? 'equal' : `${more ? 'at least ' : ''}${count(differences.length)} differ`,
  ];
  return [
    `${table} → ${destination}: ${numbers.join(', ')}`,
    ...differences.slice(0, shownDifferences).map((difference) => `  ${lineOf(difference)}`),
    ...(differences.length > shownDifferences
      ? [`  … ${count(differences.length - shownDifferences)} more: --json`]
      : []),
  ];
};

const lineOf = ({ kind, key, columns, values }: Difference): string => {
  const told = columns.map((column) => {
    const both = values?.[column];
    return both === undefined
      ? column
      : `${column}: ${JSON.stringify(both.source)} ≠ ${JSON.stringify(both.destination)}`;
  });
  return `${kind} ${key.join(', ')}${told.length === 0 ? '' : `  (${told.join(', ')})`}`;
};

const answerOf = (results: readonly (TablePair & { readonly edge: Edge; readonly result: TableResult })[]): Answer => {
  const differing = results.filter(({ result }) => result.differences.length > 0);
  const unsettled = results.filter(({ result }) => result.unsettled.length > 0 || result.more);
  return {
    lines: [
      differing.length === 0
        ? `${count(results.length)} table${results.length === 1 ? '' : 's'} equal`
        : `${count(differing.length)} of ${count(results.length)} table${results.length === 1 ? '' : 's'} differ`,
    ],
    result: {
      tables: results.map(({ table: { table, topic }, destination, edge, result }) => ({
        source: edge.source.name,
        sink: edge.sink.name,
        table,
        topic,
        destination,
        ...result,
      })),
    },
    exitCode:
      differing.length > 0 ? verifyCodes.different : unsettled.length > 0 ? verifyCodes.could_not : verifyCodes.equal,
  };
};
