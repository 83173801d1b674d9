import { ConnectError } from '../../shared/connect/errors.ts';
import { tableFilter } from '../../shared/connect/table-names.ts';
import type { PostgresCdcConfig } from './cdc-config.ts';
import { type Connection, connect } from './client.ts';
import { outputSettings } from './output-settings.ts';
import type { Relation } from './pgoutput.ts';
import { needsCatalog, noFacts, readFacts } from './table-facts.ts';
import { layoutOf, type TableLayout } from './table-layout.ts';

/** The connections of a task, and what it has learned of tables through them. */
export interface Session {
  /** Cuts what is under way when the signal aborts; whatever goes wrong, the connections are made anew next time. */
  use<T>(signal: AbortSignal, work: (connection: Connection) => Promise<T>): Promise<T>;
  main(signal: AbortSignal): Promise<Connection>;
  /** For questions while the connection is busy with a COPY. */
  aside(): Promise<Connection>;
  /** Cuts the connection: the rest of a COPY is not wanted. */
  drop(): void;
  close(): Promise<void>;
}

export const createSession = (config: PostgresCdcConfig, name: string): Session => {
  let main: Connection | undefined;
  let side: Connection | undefined;

  const open = async (signal: AbortSignal): Promise<Connection> => {
    if (main?.alive === true) return main;
    main = await connect(config, `sluice ${name}`, signal);
    await main.run(outputSettings);
    return main;
  };

  const drop = () => {
    main?.destroy();
    side?.destroy();
    main = undefined;
    side = undefined;
  };

  return {
    main: open,
    async use(signal, work) {
      const abort = () => drop();
      signal.addEventListener('abort', abort, { once: true });
      try {
        signal.throwIfAborted();
        return await work(await open(signal));
      } catch (error) {
        drop();
        if (signal.aborted) throw new ConnectError('STOPPED', 'reading PostgreSQL was stopped', { cause: error });
        throw error;
      } finally {
        signal.removeEventListener('abort', abort);
      }
    },
    async aside() {
      if (side?.alive !== true) side = await connect(config, `sluice ${name} aside`, new AbortController().signal);
      return side;
    },
    drop,
    async close() {
      const all = [main, side];
      main = undefined;
      side = undefined;
      for (const connection of all) await connection?.close();
    },
  };
};

/** What became of relation messages: each COPY sends those of its tables anew. */
export type Layouts = ReturnType<typeof createLayouts>;

export const createLayouts = (
  config: PostgresCdcConfig,
  session: Session,
  isRead: (table: string) => boolean = () => true,
) => {
  const isIncluded = tableFilter(config);
  const known = new Map<string, TableLayout>();
  const keyOf = (relation: Relation) => JSON.stringify(relation);
  return {
    /** Undefined: the table is not one to read. Null: it has to be learned first. */
    layoutOf(relation: Relation): TableLayout | undefined | null {
      const name = `${relation.schema}.${relation.table}`;
      if (!isIncluded(name) || !isRead(name)) return undefined;
      const layout = known.get(keyOf(relation));
      if (layout !== undefined || needsCatalog(relation)) return layout ?? null;
      const plain = layoutOf(relation, noFacts, config);
      known.set(keyOf(relation), plain);
      return plain;
    },
    async learn(relation: Relation): Promise<void> {
      const facts = await readFacts(await session.aside(), relation);
      known.set(keyOf(relation), layoutOf(relation, facts, config));
    },
  };
};
