import type { Rejected } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { createTextOutput, type TextOutput } from '../../shared/connect/text-output.ts';
import type { Writer } from '../../shared/sql/commit.ts';
import { emptyStatement } from '../../shared/sql/plan.ts';
import { writeWindows } from '../../shared/sql/windows.ts';
import { type Connection, copyLineOf, sqlStateOf } from './client.ts';
import type { PostgresTarget } from './target.ts';
import { type Unit, unitOf } from './unit.ts';

const enter = 'SAVEPOINT sluice';
const leave = 'RELEASE SAVEPOINT sluice';
const undo = 'ROLLBACK TO SAVEPOINT sluice';

/** So many rows are worth a try whether all of them are new. */
const directRows = 1_000;

/** It keeps the buffer that lines are made in. */
export const createWriter = (connection: Connection): Writer<PostgresTarget> => {
  const out: TextOutput = createTextOutput();
  /** Until a row was there already: a table that is being filled takes half the server's work this way. */
  let allNew = true;

  /** Whether the rows went into the table itself. Where they did not, the transaction is as it was before. */
  const copyDirect = async (unit: Unit, last: readonly string[]): Promise<boolean> => {
    const { staged, direct } = unit.target;
    if (!allNew || !staged || direct === undefined || unit.deletes || unit.count < directRows) return false;
    const statements = [enter, direct, leave, ...last].join(';');
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

  const copyApart = (unit: Unit, rejected: Rejected[]): Promise<void> =>
    writeWindows({
      count: unit.count,
      write: (from, to) => copy(unit, from, to, [enter], [leave]),
      undo: async () => void (await connection.run(`${undo};${leave}`)),
      badRow: copyLineOf,
      reject: (row, error) => void rejected.push({ index: unit.origin(row), error }),
    });

  return {
    async write(runs, last) {
      for (const [i, run] of runs.entries()) {
        const after = i === runs.length - 1 ? last : [];
        if (run[0]!.empties) {
          await connection.run([emptyStatement(run[0]!.target), ...after].join(';'));
          continue;
        }
        const unit = unitOf(run);
        if (!(await copyDirect(unit, after))) await copy(unit, 0, unit.count, [], after);
      }
      if (runs.length === 0 && last.length > 0) await connection.run(last.join(';'));
    },
    async writeApart(runs) {
      const rejected: Rejected[] = [];
      for (const run of runs)
        if (run[0]!.empties) await connection.run(emptyStatement(run[0]!.target));
        else await copyApart(unitOf(run), rejected);
      return rejected;
    },
  };
};
