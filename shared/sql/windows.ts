import { ConnectError } from '../connect/errors.ts';

export interface Windows {
  readonly count: number;
  /** Writes rows [from, to), behind a savepoint. */
  write(from: number, to: number): Promise<void>;
  /** Undoes what a write began that threw. */
  undo(): Promise<void>;
  /** Which of the rows of the write from `from` on the server refused, counted from there; undefined where it did not say. */
  badRow(error: ConnectError, from: number): number | undefined;
  reject(row: number, error: ConnectError): void;
}

/**
 * Rows in windows that shrink to what the server refuses and grow again behind it: a bad row costs a few round trips. Throws errors
 * that are not a row's.
 */
export const writeWindows = async ({ count, write, undo, badRow, reject }: Windows): Promise<void> => {
  let at = 0;
  let window = count;
  while (at < count) {
    const end = Math.min(count, at + window);
    const error = await write(at, end).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    if (error === undefined) {
      at = end;
      window *= 2;
      continue;
    }
    if (!(error instanceof ConnectError) || error.blame === 'system') throw error;
    await undo();
    if (end - at > 1) window = windowBefore(badRow(error, at), end - at);
    else if (error.blame === 'order') throw error;
    else {
      reject(at, error);
      at = end;
    }
  }
};

/** The rows before the bad one, or the bad one alone; half of them where the server did not say which it is. */
const windowBefore = (badRow: number | undefined, rows: number): number =>
  badRow === undefined || badRow >= rows ? Math.ceil(rows / 2) : Math.max(badRow, 1);
