import type { OpenContext, SourceTask } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import { type QueryConfig, type QueryOffset, readsInRanges } from '../connect/query-config.ts';
import { readInBulk } from './query-bulk.ts';
import { readNew } from './query-new.ts';
import { sourceOf } from './query-position.ts';
import type { QueryReader } from './query-reader.ts';
import type { Looked, Reading } from './query-reading.ts';
import { type QueryTable, requireTables } from './query-table.ts';

/**
 * Tables one after the other, each in pages behind the last row that was read. A run ends when each table has given a page that was not
 * full: what comes in the meantime is the next run's.
 */
export const createQueryTask = <T extends QueryTable>(
  config: QueryConfig,
  reader: QueryReader<T>,
  { incarnation, signal, taskId, tasks }: Pick<OpenContext<QueryConfig>, 'incarnation' | 'signal' | 'taskId' | 'tasks'>,
): SourceTask<QueryOffset> => {
  const reading: Reading<T> = { config, reader, incarnation, task: taskId, tasks: readsInRanges(config) ? tasks : 1 };
  const mode = (config.mode === 'bulk' ? readInBulk : readNew)(reading);
  let looked: Promise<Looked<T>> | undefined;

  const look = async (): Promise<Looked<T>> => {
    const { identity, tables } = await reader.look();
    requireTables(config, tables);
    return { identity, sources: tables.map((table) => sourceOf(table, config, reader.dialect)) };
  };

  /** Invariant 6: what waits for the server is cut when the signal aborts. */
  const through = async <R>(abort: AbortSignal, work: (looked: Looked<T>) => Promise<R>): Promise<R> => {
    const cut = () => reader.connection.destroy();
    abort.addEventListener('abort', cut, { once: true });
    try {
      abort.throwIfAborted();
      looked ??= look();
      return await work(await looked);
    } catch (error) {
      if (abort.aborted) throw new ConnectError('STOPPED', 'reading by queries was stopped', { cause: error });
      // Invariant 8: where the server can't evaluate what it is asked for, no record is to blame.
      if (error instanceof ConnectError && error.blame !== 'system')
        throw new ConnectError('CONFIG_INVALID', error.message, { cause: error });
      throw error;
    } finally {
      abort.removeEventListener('abort', cut);
    }
  };

  return {
    poll: (offsets, budget) => through(budget.signal, (found) => mode.poll(found, offsets, budget)),
    more: (offsets) => through(signal, (found) => mode.more(found, offsets)),
    close: () => reader.connection.close(),
  };
};
