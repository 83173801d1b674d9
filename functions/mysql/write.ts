import type { Rejected } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { createTextOutput } from '../../shared/connect/text-output.ts';
import type { Writer } from '../../shared/sql/commit.ts';
import { emptyStatement } from '../../shared/sql/plan.ts';
import { writeWindows } from '../../shared/sql/windows.ts';
import type { Connection } from './client.ts';
import { errnoOf } from './errors.ts';
import type { MysqlTarget } from './target.ts';
import { type Unit, unitOf } from './unit.ts';

const enter = 'SAVEPOINT sluice';
const leave = 'RELEASE SAVEPOINT sluice';
const undo = 'ROLLBACK TO SAVEPOINT sluice';

/** It keeps the buffer that statements are made in. */
export const createWriter = (connection: Connection): Writer<MysqlTarget> => {
  const limits = { out: createTextOutput(), maxBytes: connection.server.maxPacket };
  /** The row that the server refused last, counted in its unit. */
  let refused: number | undefined;

  /** The server works on a packet while the next is made. */
  const write = async (unit: Unit, from: number, to: number, before: string, after: string): Promise<void> => {
    refused = undefined;
    let sent = Promise.resolve();
    try {
      for (const { statements, rows } of unit.packets(from, to, limits, before, after)) {
        await sent;
        sent = connection.send(statements).catch((error: ConnectError) => {
          refused = rows[rowOf(error)];
          throw told(error, unit.target);
        });
      }
    } finally {
      await sent;
    }
  };

  const writeApart = (unit: Unit, rejected: Rejected[]): Promise<void> =>
    writeWindows({
      count: unit.count,
      async write(from, to) {
        await connection.run(enter);
        await write(unit, from, to, '', leave);
      },
      // Where the server has ended the transaction there is no savepoint, and this throws.
      undo: async () => void (await connection.run(`${undo};${leave}`)),
      badRow: (_error, from) => (refused === undefined ? undefined : refused - from),
      reject: (row, error) => void rejected.push({ index: unit.origin(row), error }),
    });

  return {
    async write(runs, last) {
      const end = last.join(';');
      for (const [i, run] of runs.entries()) {
        const after = i === runs.length - 1 ? end : '';
        if (run[0]!.empties) await connection.run([emptyStatement(run[0]!.target), after].filter(Boolean).join(';'));
        else {
          const unit = unitOf(run);
          await write(unit, 0, unit.count, '', after);
        }
      }
      if (runs.length === 0 && end !== '') await connection.run(end);
    },
    async writeApart(runs) {
      const rejected: Rejected[] = [];
      for (const run of runs)
        if (run[0]!.empties) await connection.run(emptyStatement(run[0]!.target));
        else await writeApart(unitOf(run), rejected);
      return rejected;
    },
  };
};

/** The row of its statement that an error names, from 0; -1 where it names none. */
const rowOf = ({ message }: ConnectError): number => Number(/ at row (\d+)(?:;|$)/.exec(message)?.[1] ?? 0) - 1;

const CANNOT_BE_NULL = 1048;

/** No record has a key with null in it: where the key becomes NULL, the row of another key has one of its unique values. */
const told = (error: ConnectError, { table, key }: MysqlTarget): ConnectError => {
  const { code, message, blame, retriable, cause } = error;
  const doing = `table ${table.sql}`;
  if (errnoOf(error) === CANNOT_BE_NULL && key[0] !== undefined && message.includes(`'${key[0].name}'`))
    return new ConnectError('UNAVAILABLE', `${doing}: another row has a unique value of this one; ${message}`, {
      blame: 'order',
      retriable: true,
      cause,
    });
  return new ConnectError(code, `${doing}: ${message}`, { blame, retriable, cause });
};
