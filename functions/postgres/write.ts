import type { Rejected } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { createTextOutput, type TextOutput } from '../../shared/connect/text-output.ts';
import type { Writer } from '../../shared/sql/commit.ts';
import { emptyStatement } from '../../shared/sql/plan.ts';
import { writeWindows } from '../../shared/sql/windows.ts';
import { type Connection, copyLineOf, sqlStateOf } from './client.ts';
import type { PostgresTarget } from './target.ts';
import { UnusualValue } from './to-copy-binary.ts';
import { type Unit, unitOf } from './unit.ts';

const enter = 'SAVEPOINT sluice';
const leave = 'RELEASE SAVEPOINT sluice';
const undo = 'ROLLBACK TO SAVEPOINT sluice';

/** So many rows are worth a try whether all of them are new. */
const directRows = 1_000;

/** Whether it is the form of the rows that was refused, here or by the server, and not a row. */
const isOfForm = (error: ConnectError): boolean =>
  error.cause instanceof UnusualValue || /^(0A|42)/.test(sqlStateOf(error) ?? '');

/** It keeps the buffer that lines are made in. */
export const createWriter = (connection: Connection): Writer<PostgresTarget> => {
  const out: TextOutput = createTextOutput();
  /** Until a row was there already: a table that is being filled takes half the server's work this way. */
  let allNew = true;

  /** Targets of which a value was unusual, or whose server knows no binary rows: their rows go as texts. */
  const worded = new Set<PostgresTarget>();

  /** The rows into the table itself. Where that fails, the error, and the transaction is as it was before. */
  const tryCopy = async (statement: string, chunks: Iterable<Uint8Array>, last: readonly string[]) => {
    const error = await connection.copy([enter, statement, leave, ...last].join(';'), chunks).then(
      () => undefined,
      (thrown: ConnectError) => thrown,
    );
    if (error === undefined) return undefined;
    // A key that is there, a value that does not fit, a table that takes no COPY: the other way tells it, or gets on. A commit that
    // was refused has ended the transaction, and with it the savepoint.
    if (error.blame === 'system' && !isOfForm(error)) throw error;
    await connection.run(`${undo};${leave}`).catch(() => {
      throw error;
    });
    return error;
  };

  /** Whether the rows went into the table itself. */
  const copyDirect = async (unit: Unit, last: readonly string[]): Promise<boolean> => {
    const { staged, direct, binary } = unit.target;
    if (!allNew || !staged || direct === undefined || unit.deletes || unit.count < directRows) return false;
    if (binary !== undefined && !worded.has(unit.target)) {
      const error = await tryCopy(binary, unit.binary(out), last);
      if (error === undefined) return true;
      if (isOfForm(error)) worded.add(unit.target);
      else allNew = false;
    }
    if (allNew) allNew = (await tryCopy(direct, unit.lines(0, unit.count, out, true), last)) === undefined;
    return allNew;
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
