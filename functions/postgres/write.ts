import type { Rejected } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { createTextOutput, type TextOutput } from '../../shared/connect/text-output.ts';
import { type Connection, copyLineOf, sqlStateOf } from './client.ts';
import type { Unit } from './plan.ts';

/** Writes units inside an open transaction. It keeps the buffer that lines are made in. */
export interface Writer {
  /** Everything at once, with `last` statements in the last round trip. Throws what the server refuses. */
  write(units: readonly Unit[], last: readonly string[]): Promise<void>;
  /** Rows that are refused are found and left out. Throws errors that are not a row's. */
  writeApart(units: readonly Unit[]): Promise<readonly Rejected[]>;
}

const enter = 'SAVEPOINT sluice';
const leave = 'RELEASE SAVEPOINT sluice';
const undo = 'ROLLBACK TO SAVEPOINT sluice';

/** So many rows are worth a try whether all of them are new. */
const directRows = 1_000;

export const createWriter = (connection: Connection): Writer => {
  const out: TextOutput = createTextOutput();
  /** Until a row was there already: a table that is being filled takes half the server's work this way. */
  let allNew = true;

  /** Whether the rows went into the table itself. Where they did not, the transaction is as it was before. */
  const copyDirect = async (unit: Unit, last: readonly string[]): Promise<boolean> => {
    if (!allNew || !unit.target.staged || unit.deletes || unit.count < directRows) return false;
    const statements = [enter, unit.target.direct, leave, ...last].join(';');
    const error = await connection.copy(statements, unit.lines(0, unit.count, out, true)).then(
      () => undefined,
      (thrown: ConnectError) => thrown,
    );
    if (error === undefined) return true;
    allNew = false;
    // A key that is there, a value that does not fit, a table that takes no COPY: the other way tells it, or gets on. A commit that
    // was refused has ended the transaction, and with it the savepoint.
    const state = sqlStateOf(error);
    if (error.blame === 'system' && !/^(0A|42)/.test(state ?? '')) throw error;
    await connection.run(`${undo};${leave}`).catch(() => {
      throw error;
    });
    return false;
  };

  const copy = async (unit: Unit, from: number, to: number, before: readonly string[], after: readonly string[]) => {
    const statements = [...before, ...unit.target.statements(unit.deletes), ...after];
    await connection.copy(statements.join(';'), unit.lines(from, to, out)).catch((error: ConnectError) => {
      const { code, message, blame, retriable, cause } = error;
      throw new ConnectError(code, `table ${unit.target.table.sql}: ${message}`, { blame, retriable, cause });
    });
  };

  /** Rows in windows that shrink to what the server refuses and grow again behind it: a bad row costs a few round trips. */
  const copyApart = async (unit: Unit, rejected: Rejected[]): Promise<void> => {
    let at = 0;
    let window = unit.count;
    while (at < unit.count) {
      const end = Math.min(unit.count, at + window);
      const error = await copy(unit, at, end, [enter], [leave]).then(
        () => undefined,
        (thrown: ConnectError) => thrown,
      );
      if (error === undefined) {
        at = end;
        window *= 2;
        continue;
      }
      if (error.blame === 'system') throw error;
      await connection.run(`${undo};${leave}`);
      if (end - at > 1) window = windowBefore(copyLineOf(error), end - at);
      else if (error.blame === 'order') throw error;
      else {
        rejected.push({ index: unit.origin(at), error });
        at = end;
      }
    }
  };

  return {
    async write(units, last) {
      for (const [i, unit] of units.entries()) {
        const after = i === units.length - 1 ? last : [];
        if (!(await copyDirect(unit, after))) await copy(unit, 0, unit.count, [], after);
      }
      if (units.length === 0 && last.length > 0) await connection.run(last.join(';'));
    },
    async writeApart(units) {
      const rejected: Rejected[] = [];
      for (const unit of units) await copyApart(unit, rejected);
      return rejected;
    },
  };
};

/** The rows before the bad one, or the bad one alone; half of them where the server did not say which it is. */
const windowBefore = (badRow: number | undefined, rows: number): number =>
  badRow === undefined || badRow >= rows ? Math.ceil(rows / 2) : Math.max(badRow, 1);
