import { createHash } from 'node:crypto';
import type { Identity, OffsetCommit } from '../connect/connector.ts';
import type { Scope } from '../connect/control.ts';
import { ConnectError } from '../connect/errors.ts';
import type { Connection } from './session.ts';

/** The shape of a row of sluice_runs (invariant 11). A newer one stops this reader. */
export const runsShape = 1;

/** A run of a topic whose end has not come: its rows are in a table of their own. */
export interface StagedRun {
  readonly topic: string;
  readonly run: string;
  readonly scope: Scope;
  /** The name of that table, in the schema of the topic's own. Unique per begin that is committed. */
  readonly staging: string;
  /** Records of the run so far. */
  readonly records: number;
  /** Names of the columns that were written so far, and of those of the key; undefined before the first row. */
  readonly written: Written | undefined;
}

export interface Written {
  readonly columns: readonly string[];
  readonly key: readonly string[];
}

/**
 * The runs of one connector, in the destination, moved in the transaction of the rows. A staging table is made and dropped outside of any
 * transaction, because DDL commits (hazard E4), so its name is used once: a run that is published, or void, is `over` in the transaction that
 * made it so, and only then is its table dropped, by whoever comes first. A zombie drops no table that is in use.
 */
export interface RunTable<C extends Connection> {
  ensure(connection: C): Promise<void>;
  read(connection: C): Promise<{ readonly open: readonly StagedRun[]; readonly over: readonly StagedRun[] }>;
  /** Statements for inside a transaction. */
  begin(run: StagedRun): string;
  add(run: StagedRun, records: number, written: Written | undefined): string;
  end(run: StagedRun): string;
  endAll(): string;
  /** After its table is dropped. */
  forget(connection: C, run: StagedRun): Promise<void>;
}

interface RunRow {
  readonly topic: string;
  readonly run: string;
  readonly scope: string;
  readonly staging: string;
  readonly records: string | number;
  readonly written: string | null;
  readonly state: string;
  readonly v: number;
}

/** How a system names and makes a table of the sink's own. */
export interface SqlTable<C extends Connection> {
  /** Quoted. */
  readonly table: string;
  literal(text: string): string;
  make(connection: C): Promise<void>;
}

export const createRunTable = <C extends Connection>(
  { table, literal, make }: SqlTable<C>,
  { deployment, connector, incarnation }: Identity,
): RunTable<C> => {
  const owner = [deployment, connector, incarnation];
  const mine = ['deployment', 'connector', 'incarnation']
    .map((name, i) => `${name} = ${literal(owner[i]!)}`)
    .join(' AND ');
  const one = ({ staging }: StagedRun) => `${mine} AND staging = ${literal(staging)}`;
  const writtenText = (written: Written | undefined) =>
    written === undefined ? 'NULL' : literal(JSON.stringify(written));
  let made = false;

  return {
    async ensure(connection) {
      if (!made) await make(connection);
      made = true;
    },
    async read(connection) {
      const rows = await connection.query<RunRow>(
        `SELECT topic, run, scope, staging, records, written, state, v FROM ${table} WHERE ${mine}`,
      );
      const runs = rows.map((row) => ({ state: row.state, run: stagedRun(row) }));
      const of = (state: string) => runs.filter((one) => one.state === state).map(({ run }) => run);
      return { open: of('open'), over: of('over') };
    },
    begin({ topic, run, scope, staging }) {
      const values = [...owner, staging, topic, run, scope].map(literal).join(', ');
      return `INSERT INTO ${table} (deployment, connector, incarnation, staging, topic, run, scope, records, written, state, v)
        VALUES (${values}, 0, NULL, 'open', ${runsShape})`;
    },
    add: (run, records, written) =>
      `UPDATE ${table} SET records = records + ${records}, written = ${writtenText(written)} WHERE ${one(run)}`,
    end: (run) => `UPDATE ${table} SET state = 'over' WHERE ${one(run)}`,
    endAll: () => `UPDATE ${table} SET state = 'over' WHERE ${mine}`,
    async forget(connection, run) {
      await connection.run(`DELETE FROM ${table} WHERE ${one(run)}`);
    },
  };
};

const stagedRun = ({ topic, run, scope, staging, records, written, v }: RunRow): StagedRun => {
  if (v > runsShape)
    throw new ConnectError(
      'SHAPE_TOO_NEW',
      `run ${run} of topic ${topic} in sluice_runs has shape ${v}, this release reads ${runsShape}: use the release that wrote it`,
    );
  return {
    ...{ topic, run, scope: scope as Scope, staging, records: Number(records) },
    written: written === null ? undefined : (JSON.parse(written) as Written),
  };
};

/** A name that tells a person whose rows these are, and that no other begin gives: each commit is made once. */
export const stagingName = (topic: string, table: string, commits: readonly OffsetCommit[]): string => {
  const hash = createHash('sha256').update(
    JSON.stringify([topic, ...commits.map(({ key, writeId }) => [key, writeId])]),
  );
  return `sluice_run_${table.replace(/\W/g, '_').slice(0, 32)}_${hash.digest('hex').slice(0, 16)}`;
};
