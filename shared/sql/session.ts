import type { RecordBatch } from '../connect/batch.ts';
import { type PutContext, partitionKey, type SinkTask } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import { commitPlan, type Writer } from './commit.ts';
import type { Limits, RowsConfig } from './layout.ts';
import type { OffsetTable } from './offsets.ts';
import { type Judged, judgeBatch, planOf, type Target, type Targets } from './plan.ts';
import type { StagingTables } from './visibility.ts';

/** One session of a database. Calls run in the order they are made. What it throws is a classified ConnectError. */
export interface Connection {
  /** False once the session is lost: nothing more can be asked. */
  readonly alive: boolean;
  query<Row extends object>(text: string, values?: readonly unknown[]): Promise<readonly Row[]>;
  /** Runs statements in one round trip; the number of rows each one touched. Stops at the first that fails. */
  run(text: string): Promise<readonly number[]>;
  /** Cuts the connection: what is under way fails. */
  destroy(): void;
  close(): Promise<void>;
}

/** A connection and what is known through it. */
export interface Session<C extends Connection, T extends Target> {
  readonly connection: C;
  readonly targets: Targets<T>;
  readonly writer: Writer<T>;
  readonly staging: StagingTables;
}

export interface Sessions<C extends Connection, T extends Target> {
  /** Works with the session; cuts it when the signal aborts, and drops it, with all that was known, when anything goes wrong. */
  use<R>(signal: AbortSignal, work: (session: Session<C, T>) => Promise<R>): Promise<R>;
  close(): Promise<void>;
}

export const createSessions = <C extends Connection, T extends Target>(
  system: string,
  open: (signal: AbortSignal) => Promise<Session<C, T>>,
): Sessions<C, T> => {
  let session: Session<C, T> | undefined;

  const close = async () => {
    const { connection } = session ?? {};
    session = undefined;
    await connection?.close();
  };

  return {
    async use(signal, work) {
      const abort = () => session?.connection.destroy();
      signal.addEventListener('abort', abort, { once: true });
      try {
        if (signal.aborted) throw signal.reason;
        if (session?.connection.alive === false) await close();
        session ??= await open(signal);
        return await work(session);
      } catch (error) {
        // Ending the session also ends its transaction.
        await close();
        if (signal.aborted) throw new ConnectError('STOPPED', `writing to ${system} was stopped`, { cause: error });
        throw error;
      } finally {
        signal.removeEventListener('abort', abort);
      }
    },
    close,
  };
};

/** How batches are put by a sink that takes control records, and what their control records mean to it. */
export interface ControlledPut<C extends Connection, T extends Target> {
  /** Makes its tables where they are missing. Outside of any transaction. */
  ensure(connection: C): Promise<void>;
  /** Statements that void what is staged, where an operator moves the offsets of these partitions. */
  voided(partitions: readonly string[]): readonly string[];
  take(batch: RecordBatch): number;
  put(
    batch: RecordBatch,
    judge: (batch: RecordBatch) => Judged,
    context: PutContext,
    session: Session<C, T>,
  ): Promise<void>;
}

/** The task of a sink whose rows and offsets are one transaction of the destination. */
export const createTask = <C extends Connection, T extends Target>(
  sessions: Sessions<C, T>,
  offsets: OffsetTable<C>,
  { config, signal }: { readonly config: RowsConfig; readonly signal: AbortSignal },
  limits: Limits,
  controlled?: ControlledPut<C, T>,
): SinkTask => {
  /** While the server works on the batch before it. */
  const early = new WeakMap<RecordBatch, Judged>();
  const judge = (batch: RecordBatch): Judged => early.get(batch) ?? judgeBatch(batch, config, limits);
  return {
    ahead(batch) {
      early.set(batch, judgeBatch(batch, config, limits));
    },
    ...(controlled === undefined ? {} : { takesControl: true, take: controlled.take }),
    async put(batch, context) {
      if (batch.count === 0 && context.offsets.length === 0) return { committed: true };
      return sessions.use(context.signal, async (session) => {
        const { connection, targets, writer } = session;
        await offsets.ensure(connection);
        await controlled?.ensure(connection);
        if (controlled !== undefined) await controlled.put(batch, judge, context, session);
        // What changes tables comes before the transaction of the rows.
        else await commitPlan(await planOf(judge(batch), targets), context, connection, offsets, writer);
        return { committed: true };
      });
    },
    offsets: () => sessions.use(signal, ({ connection }) => offsets.read(connection)),
    reset: (id, positions) =>
      sessions.use(signal, async ({ connection }) => {
        await offsets.ensure(connection);
        await controlled?.ensure(connection);
        const partitions = positions.map(({ partition }) => partitionKey(partition));
        await offsets.reset(connection, id, positions, controlled?.voided(partitions) ?? []);
      }),
    close: () => sessions.close(),
  };
};
