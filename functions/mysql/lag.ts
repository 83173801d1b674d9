import type { Lag, Offsets, OpenContext, Retained } from '../../shared/connect/connector.ts';
import { useOnce } from '../../shared/sql/use-once.ts';
import type { MysqlCdcConfig } from './cdc-config.ts';
import type { MysqlCdcOffset, StreamOffset } from './cdc-offset.ts';
import { type Connection, connect } from './client.ts';
import { askIsMariaDb, identityOf, startOfFile } from './server.ts';

interface BinlogFile {
  readonly name: string;
  readonly bytes: number;
}

/** How far a place is from the end of the binlog, and when the server takes its file away: it does not ask who reads it. */
export const measureLag = async (
  context: OpenContext<MysqlCdcConfig>,
  offsets: Offsets<MysqlCdcOffset>,
): Promise<Lag> => {
  const at = offsets.get({ server: context.config.topicPrefix }) as StreamOffset | undefined;
  if (at === undefined) return {};
  return withConnection(context, async (connection) => {
    // After a failover files have other names, until the next run has found its GTIDs among them.
    if (at.server !== (await identityOf(connection, await askIsMariaDb(connection)))) return {};
    const rows = await connection.query<{ Log_name: string; File_size: string | number }>('SHOW BINARY LOGS');
    const files = rows.map(({ Log_name, File_size }): BinlogFile => ({ name: Log_name, bytes: Number(File_size) }));
    const [clock] = await connection.query<{ nowMs: string | number }>('SELECT UNIX_TIMESTAMP() * 1000 AS nowMs');
    const nowMs = Number(clock!.nowMs);
    const index = files.findIndex(({ name }) => name === at.file);
    if (index === -1)
      return { retained: { share: 1, text: `the server has purged ${at.file}, from which it has to go on` } };
    const bytes = Math.max(0, files.slice(index).reduce((sum, file) => sum + file.bytes, 0) - at.pos);
    const timeOf = (file: string, pos: number) =>
      withConnection(
        context,
        (other) => other.eventTimeMs(file, pos),
        (other) => other.destroy(),
      );
    const oldestMs = bytes === 0 ? undefined : await timeOf(at.file, at.pos);
    const next = files[index + 1];
    const endedMs = next === undefined ? undefined : await timeOf(next.name, startOfFile);
    const keptMs = await keptMsOf(connection);
    return {
      bytes,
      behindMs: oldestMs === undefined ? 0 : Math.max(0, nowMs - oldestMs),
      ...(keptMs === undefined ? {} : { retained: retainedOf(at.file, keptMs, endedMs, nowMs) }),
    };
  });
};

/** A file is purged so long after its last event. The newest one never is. */
const retainedOf = (file: string, keptMs: number, endedMs: number | undefined, nowMs: number): Retained => {
  const seconds = keptMs / 1000;
  if (endedMs === undefined)
    return {
      share: 0,
      text: `${file}, from which it goes on, is the newest: the server purges it ${seconds} s after the next one begins`,
    };
  const purged = new Date(endedMs + keptMs).toISOString();
  return {
    share: Math.max(0, nowMs - endedMs) / keptMs,
    text: `the server purges ${file}, from which it has to go on, at ${purged}: have it run, or SET GLOBAL binlog_expire_logs_seconds = ${seconds * 4}`,
  };
};

/** Undefined: for ever. */
const keptMsOf = async (connection: Connection): Promise<number | undefined> => {
  const rows = await connection.query<{ Variable_name: string; Value: string }>(
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('binlog_expire_logs_seconds', 'binlog_expire_logs_auto_purge', 'expire_logs_days')",
  );
  const values = new Map(rows.map(({ Variable_name, Value }) => [Variable_name.toLowerCase(), Value]));
  if (values.get('binlog_expire_logs_auto_purge') === 'OFF') return undefined;
  const seconds =
    Number(values.get('binlog_expire_logs_seconds') ?? 0) || Number(values.get('expire_logs_days') ?? 0) * 86_400;
  return seconds === 0 ? undefined : seconds * 1000;
};

const withConnection = async <T>(
  { config, connector, signal }: OpenContext<MysqlCdcConfig>,
  work: (connection: Connection) => Promise<T>,
  end?: (connection: Connection) => void,
): Promise<T> => useOnce(await connect(config, `sluice ${connector} lag`, signal), signal, work, end);
