import { ConnectError, type ConnectErrorOptions, type ErrorCode } from '../../shared/connect/errors.ts';

type Class = readonly [code: ErrorCode, options?: ConnectErrorOptions];

const row: Class = ['RECORD_REJECTED', { blame: 'row' }];
const order: Class = ['UNAVAILABLE', { blame: 'order', retriable: true }];
const unavailable: Class = ['UNAVAILABLE', { retriable: true }];
const config: Class = ['CONFIG_INVALID'];
/** The secret may have been rotated; where it was not, the coordinator's tries are too rare to lock anybody out. */
const refused: Class = ['AUTHENTICATION_FAILED', { retriable: true }];

const byClass: readonly (readonly [Class, readonly number[]])[] = [
  // Null, too long, out of range, not of the type; CHECK of MySQL and of MariaDB; broken or too deep JSON.
  [row, [1048, 1264, 1265, 1292, 1366, 1367, 1406, 1690, 3140, 3141, 3144, 3157, 3819, 3903, 4025, 4078, 22001]],
  // A unique key that is taken, a parent that is missing or has children.
  [order, [1022, 1062, 1169, 1216, 1217, 1451, 1452, 1557, 1586, 1761, 1762]],
  [refused, [1045, 1251, 1524, 1698, 1862, 1275, 2061]],
  // A missing database, table or column, a missing privilege, a statement that the server does not take.
  [
    config,
    [1044, 1046, 1049, 1051, 1054, 1060, 1064, 1071, 1072, 1075, 1101, 1103, 1113, 1115, 1118, 1142, 1143, 1146],
  ],
  [
    config,
    [1059, 1102, 1117, 1163, 1166, 1170, 1171, 1227, 1235, 1273, 1286, 1289, 1293, 1347, 1348, 1356, 1364, 1370],
  ],
  [config, [1471, 1665, 1701, 1906, 3105, 3152, 3159, 3750]],
  // Starting, stopping, full, locked, deadlocked, read-only until the address leads to the new primary.
  [unavailable, [1021, 1037, 1038, 1040, 1041, 1053, 1077, 1078, 1079, 1080, 1114, 1129, 1152, 1158, 1159, 1160, 1161]],
  [unavailable, [1180, 1184, 1203, 1205, 1206, 1213, 1226, 1290, 1317, 1613, 1614, 1836, 1927, 1969, 2002, 2003, 2006]],
  [unavailable, [2013, 3024, 3058, 3101, 3169, 3572, 4031]],
];

/** Error numbers by who is to blame. What is not listed is an unexpected system error. */
const classes = new Map(byClass.flatMap(([one, errnos]) => errnos.map((errno) => [errno, one] as const)));

const networkErrors = new Set([
  ...['ECONNREFUSED', 'ECONNRESET', 'ECONNABORTED', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH'],
  ...['ENOTFOUND', 'EAI_AGAIN', 'ERR_STREAM_DESTROYED', 'ERR_STREAM_WRITE_AFTER_END', 'PROTOCOL_CONNECTION_LOST'],
]);
const lostConnection =
  /in closed state|Connection lost|connection is in closed|socket disconnected|closed the connection/i;
const badTls = /^(ERR_TLS|ERR_SSL|CERT_|SELF_SIGNED|DEPTH_ZERO|UNABLE_TO|HANDSHAKE_SSL)/;
export const noTls = 'HANDSHAKE_NO_SSL_SUPPORT';

interface DriverError extends Error {
  readonly code?: string;
  readonly errno?: number;
  readonly sqlState?: string;
}

/** What the driver threw, by who is to blame. The statement that it quotes is not told: it holds the data. */
export const classify = (thrown: unknown, doing: string): ConnectError => {
  if (thrown instanceof ConnectError) return thrown;
  const { message, errno, sqlState, code } = thrown as DriverError;
  const [errorCode, options] = classOf(thrown as DriverError);
  const number = sqlState === undefined || sqlState === '' ? undefined : `error ${errno} (${sqlState})`;
  const said = [message || code, number].filter((part) => part !== undefined);
  return new ConnectError(errorCode, `${doing}: ${said.join('; ')}`, { ...options, cause: withoutSql(thrown) });
};

const withoutSql = (thrown: unknown): unknown => {
  if (thrown instanceof Error && 'sql' in thrown) delete thrown.sql;
  return thrown;
};

const classOf = ({ code = '', errno, sqlState = '', message }: DriverError): Class => {
  if (sqlState !== '') return classes.get(errno!) ?? ['UNEXPECTED'];
  if (networkErrors.has(code) || lostConnection.test(message)) return unavailable;
  if (badTls.test(code) || code === noTls) return config;
  return classes.get(errno ?? 0) ?? ['UNEXPECTED'];
};

/** The number of the server's error; undefined where it is none of the server's. */
export const errnoOf = (error: unknown): number | undefined => {
  const { cause } = error as { readonly cause?: DriverError };
  return error instanceof ConnectError && cause?.sqlState ? cause.errno : undefined;
};

export const lostPosition = (what: string): ConnectError =>
  new ConnectError(
    'LOST_POSITION',
    `${what}: what came between is not to be had any more. Reset the offsets to read all rows again (sluice offsets reset), or set one that the server has`,
  );
