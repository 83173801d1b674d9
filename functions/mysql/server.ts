import { setTimeout as delay } from 'node:timers/promises';
import type { OpenContext } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { PlanOffset } from '../../shared/sql/snapshot.ts';
import type { BinlogPlace } from './binlog.ts';
import { type Catalog, catalogOf } from './catalog.ts';
import type { MysqlCdcConfig } from './cdc-config.ts';
import type { StreamOffset } from './cdc-offset.ts';
import { tablesOf } from './cdc-tables.ts';
import { type Connection, connect } from './client.ts';
import { errnoOf, lostPosition } from './errors.ts';
import { planTable, type SnapshotTable } from './snapshot.ts';

/** What a source asks its server beside the binlog. */
export interface Server {
  /** Which server it is, in offsets. */
  readonly identity: string;
  readonly login: Connection['login'];
  /** Names of tables that differ in case only are one. */
  readonly foldsNames: boolean;
  /** Its binlog has the names of columns, or can have them. */
  readonly hasNames: boolean;
  /** The oldest place of the binlog. */
  start(): Promise<StreamOffset>;
  /** Its present end. What is before it may not be visible yet. */
  end(): Promise<StreamOffset>;
  /** A place before which all is visible. */
  visible(): Promise<StreamOffset>;
  /** A connection of its own to the tables as they are at one place of the binlog. */
  openView(): Promise<View>;
  /** The same, of a view in which all is visible before `from`. */
  openViewBehind(from: BinlogPlace): Promise<View>;
  /** Throws LOST_POSITION where the place is not to be read from this server. */
  requirePlace(offset: StreamOffset): Promise<void>;
  /** Parts the rows of a table. */
  plan(table: SnapshotTable): Promise<Pick<PlanOffset, 'bounds' | 'rows'>>;
  /** The tables of the config as they are now, in one order for all tasks. */
  tables(): Promise<readonly string[]>;
  catalog(tables: readonly string[]): Promise<Catalog>;
  close(): Promise<void>;
}

/** All changes before `place`, and none behind it, are visible in it. */
export interface View {
  readonly place: BinlogPlace;
  readonly connection: Connection;
}

/** Behind the magic number. */
export const startOfFile = 4;

export const openServer = async ({ config, connector, signal }: OpenContext<MysqlCdcConfig>): Promise<Server> => {
  const connection = await connect(config, `sluice ${connector}`, signal);
  const isMariaDb = await askIsMariaDb(connection);
  const variables = await connection.query<{ Variable_name: string; Value: string }>(
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('lower_case_table_names', 'binlog_row_metadata')",
  );
  const variable = (name: string) => variables.find(({ Variable_name }) => Variable_name.toLowerCase() === name)?.Value;
  const identity = await identityOf(connection, isMariaDb);
  const openView = async (): Promise<View> => {
    const view = await connect(config, `sluice ${connector}`, signal);
    try {
      return { place: await (isMariaDb ? viewOfMariaDb(view) : viewOfMysql(view)), connection: view };
    } catch (error) {
      view.destroy();
      throw error;
    }
  };

  return {
    identity,
    login: connection.login,
    foldsNames: variable('lower_case_table_names') !== '0',
    hasNames: variable('binlog_row_metadata') !== undefined,
    async start() {
      const [first] = await connection.query<{ Log_name: string }>('SHOW BINARY LOGS');
      return { server: identity, file: first!.Log_name, pos: startOfFile, record: 0 };
    },
    async end() {
      const place = await endOf(connection, isMariaDb);
      return { server: identity, ...place, record: 0 };
    },
    async requirePlace({ server, gtids, record, file, pos }) {
      if (server !== identity && (gtids === undefined || record > 0))
        throw lostPosition(`${file}:${pos} is a place of server ${server}, and this is ${identity}`);
      if (gtids === undefined || isMariaDb) return;
      const [{ known, purged } = { known: 0, purged: 1 }] = await connection.query<{ known: number; purged: number }>(
        'SELECT GTID_SUBSET(?, @@GLOBAL.gtid_executed) AS known, NOT GTID_SUBSET(@@GLOBAL.gtid_purged, ?) AS purged',
        [gtids, gtids],
      );
      if (Number(known) === 0) throw lostPosition(`the server has not executed all of ${gtids}`);
      if (Number(purged) === 1) throw lostPosition(`the server has purged transactions after ${gtids} from its binlog`);
    },
    openView,
    async openViewBehind(from) {
      for (;;) {
        const view = await openView();
        if (await isBehind(view, from, isMariaDb)) return view;
        view.connection.destroy();
        // A commit is in the binlog before it is visible.
        await delay(lookMs, undefined, { signal });
      }
    },
    async visible() {
      const { place, connection: view } = await openView();
      view.destroy();
      return { server: identity, ...place, record: 0 };
    },
    plan: (table) => planTable(connection, table),
    tables: () => tablesOf(connection, config),
    catalog: (tables) => catalogOf(connection, tables),
    close: () => connection.close(),
  };
};

/** It lasts as long as the run: what waits longest is a batch that is written before more is read. */
const viewSession = [
  'SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ',
  'SET SESSION wait_timeout = 1000, net_write_timeout = 1000 /*M!100301 , idle_transaction_timeout = 0 */',
];

const startView = 'START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY';

/** MariaDB tells the place of a view exactly. */
const viewOfMariaDb = async (connection: Connection): Promise<BinlogPlace> => {
  await connection.run([...viewSession, startView].join(';'));
  const status = await connection.query<{ Variable_name: string; Value: string }>(
    "SHOW STATUS LIKE 'binlog_snapshot_%'",
  );
  const statusOf = (name: string) =>
    status.find(({ Variable_name }) => Variable_name.toLowerCase() === name)?.Value ?? '';
  const place = { file: statusOf('binlog_snapshot_file'), pos: Number(statusOf('binlog_snapshot_position')) };
  if (place.file === '') throw noBinlog();
  const gtids = await mariaDbGtids(connection, place);
  return { ...place, ...(gtids === '' ? {} : { gtids }) };
};

/**
 * A transaction of MySQL gets into `gtid_executed` after it is visible, while its place in the binlog is passed before: what is executed
 * before a view is opened is visible in it. What commits at that very moment may be visible and is read again from the binlog.
 */
const viewOfMysql = async (connection: Connection): Promise<BinlogPlace> => {
  const place = await endOf(connection, false);
  if (place.gtids === undefined)
    throw new ConnectError(
      'CONFIG_INVALID',
      'reading the rows that are there needs GTIDs: SET PERSIST enforce_gtid_consistency = ON, then gtid_mode = OFF_PERMISSIVE, ON_PERMISSIVE and ON, and write one transaction; or set snapshotMode to never',
    );
  const [executed] = await connection.query<{ gtids: string }>('SELECT @@GLOBAL.gtid_executed AS gtids');
  await connection.run([...viewSession, startView].join(';'));
  return { ...place, gtids: executed!.gtids.replace(/\s/g, '') };
};

/** Between two looks whether a commit is visible. */
const lookMs = 10;

/** The place of a MySQL view is before it; what is visible in it is told by its GTIDs. */
const isBehind = async ({ place, connection }: View, from: BinlogPlace, isMariaDb: boolean): Promise<boolean> => {
  if (isMariaDb || from.gtids === undefined) return !isBefore(place, from);
  const [row] = await connection.query<{ behind: number | string }>('SELECT GTID_SUBSET(?, ?) AS behind', [
    from.gtids,
    place.gtids ?? '',
  ]);
  return Number(row!.behind) === 1;
};

/** The last digits of a binlog's name count its files. */
const numberOf = (file: string): number => Number(/\d+$/.exec(file)?.[0] ?? 0);

/** Of two places of one server. */
export const isBefore = (a: BinlogPlace, b: BinlogPlace): boolean =>
  numberOf(a.file) === numberOf(b.file) ? a.pos < b.pos : numberOf(a.file) < numberOf(b.file);

const noBinlog = () =>
  new ConnectError('CONFIG_INVALID', 'the server keeps no binlog: start it with log_bin and binlog_format=ROW');

export const askIsMariaDb = async (connection: Connection): Promise<boolean> => {
  const [variables] = await connection.query<{ version: string }>('SELECT VERSION() AS version');
  return /mariadb/i.test(variables!.version);
};

export const identityOf = async (connection: Connection, isMariaDb: boolean): Promise<string> => {
  const variable = isMariaDb ? '@@GLOBAL.server_id' : '@@GLOBAL.server_uuid';
  const [row] = await connection.query<{ id: string | number }>(`SELECT ${variable} AS id`);
  return String(row!.id);
};

const SYNTAX_ERROR = 1064;

export const endOf = async (connection: Connection, isMariaDb: boolean): Promise<BinlogPlace> => {
  const [status] = await connection
    .query<{ File: string; Position: number | string; Executed_Gtid_Set?: string }>('SHOW MASTER STATUS')
    .catch((error: unknown) => {
      // Its name since MySQL 8.4. Whatever else is wrong, such as a privilege, is told as it is.
      if (errnoOf(error) === SYNTAX_ERROR) return connection.query<never>('SHOW BINARY LOG STATUS');
      throw error;
    });
  if (status === undefined) throw noBinlog();
  const place = { file: status.File, pos: Number(status.Position) };
  const gtids = isMariaDb ? await mariaDbGtids(connection, place) : (status.Executed_Gtid_Set ?? '').replace(/\s/g, '');
  return { ...place, ...(gtids === '' ? {} : { gtids }) };
};

const mariaDbGtids = async (connection: Connection, { file, pos }: BinlogPlace): Promise<string> => {
  const [row] = await connection.query<{ gtids: string | null }>('SELECT BINLOG_GTID_POS(?, ?) AS gtids', [file, pos]);
  return row?.gtids ?? '';
};
