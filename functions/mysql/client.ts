import mysql from 'mysql2/promise';
import { ConnectError } from '../../shared/connect/errors.ts';

export interface Login {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password?: string | undefined;
}

export interface Connection {
  query<Row extends object>(text: string, values?: readonly unknown[]): Promise<readonly Row[]>;
  close(): Promise<void>;
}

export const connect = async ({ host, port, user, password }: Login, signal: AbortSignal): Promise<Connection> => {
  const connection = await mysql
    .createConnection({
      host,
      port,
      user,
      password,
      dateStrings: true,
      supportBigNumbers: true,
      bigNumberStrings: true,
      timezone: 'Z',
    })
    .catch((cause: Error) => {
      throw new ConnectError('UNAVAILABLE', `cannot connect to MySQL at ${host}:${port}: ${cause.message}`, {
        retriable: true,
        cause,
      });
    });
  const abort = () => connection.destroy();
  signal.addEventListener('abort', abort, { once: true });
  return {
    async query<Row extends object>(text: string, values: readonly unknown[] = []) {
      const [rows] = await connection.query(text, [...values] as never[]);
      return rows as unknown as readonly Row[];
    },
    async close() {
      signal.removeEventListener('abort', abort);
      await connection.end();
    },
  };
};
