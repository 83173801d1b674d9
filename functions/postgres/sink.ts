import type { RecordBatch } from '../../shared/connect/batch.ts';
import { defineSink, type OpenContext, type SinkTask } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { checkSink } from './check.ts';
import { type Connection, connect } from './client.ts';
import { commitPlan } from './commit.ts';
import { PostgresSinkConfig } from './config.ts';
import { createOffsetTable, type OffsetTable } from './offsets.ts';
import { type Judged, judgeBatch, planOf } from './plan.ts';
import { createTargets, type Targets } from './target.ts';
import { createWriter, type Writer } from './write.ts';

/** Rows and offsets go into PostgreSQL in one transaction, so every record arrives exactly once. */
export const postgresSink = defineSink({
  type: 'postgres',
  config: PostgresSinkConfig,
  delivery: 'exactly-once',
  check: checkSink,
  async open(context) {
    const sessions = createSessions(context.config, context.connector);
    // A wrong password is told at open, not at the first record.
    await sessions.use(context.signal, async () => {});
    return createTask(sessions, createOffsetTable(context.config.schema, context), context);
  },
});

/** A connection and what is known through it. */
interface Session {
  readonly connection: Connection;
  readonly targets: Targets;
  readonly writer: Writer;
}

interface Sessions {
  /** Works with the session; cuts it when the signal aborts, and drops it, with all that was known, when anything goes wrong. */
  use<T>(signal: AbortSignal, work: (session: Session) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}

const createSessions = (config: PostgresSinkConfig, connector: string): Sessions => {
  let session: Session | undefined;

  const open = async (signal: AbortSignal): Promise<Session> => {
    const connection = await connect(config, `sluice ${connector}`, signal);
    return { connection, targets: createTargets(connection, config), writer: createWriter(connection) };
  };

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
        if (signal.aborted) throw new ConnectError('STOPPED', 'writing to PostgreSQL was stopped', { cause: error });
        throw error;
      } finally {
        signal.removeEventListener('abort', abort);
      }
    },
    close,
  };
};

const createTask = (
  sessions: Sessions,
  offsets: OffsetTable,
  { config, signal }: OpenContext<PostgresSinkConfig>,
): SinkTask => {
  /** While the server works on the batch before it. */
  const early = new WeakMap<RecordBatch, Judged>();
  return {
    ahead(batch) {
      early.set(batch, judgeBatch(batch, config));
    },
    async put(batch, context) {
      if (batch.count === 0 && context.offsets.length === 0) return { committed: true };
      return sessions.use(context.signal, async ({ connection, targets, writer }) => {
        await offsets.ensure(connection);
        // What changes tables comes before the transaction of the rows.
        const plan = await planOf(early.get(batch) ?? judgeBatch(batch, config), targets);
        await commitPlan(plan, context, connection, offsets, writer);
        return { committed: true };
      });
    },
    offsets: () => sessions.use(signal, ({ connection }) => offsets.read(connection)),
    reset: (id, positions) =>
      sessions.use(signal, async ({ connection }) => {
        await offsets.ensure(connection);
        await offsets.reset(connection, id, positions);
      }),
    close: () => sessions.close(),
  };
};
