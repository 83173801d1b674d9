import { randomInt } from 'node:crypto';
import ZongJi, {
  type BinlogEvent,
  type ColumnSchema,
  GtidSet,
  MariadbGtidPosition,
  type TableMapEvent,
} from '@vlasky/zongji';
import { ConnectError, toConnectError } from '../../shared/connect/errors.ts';
import { mayAlter } from './alter-statement.ts';
import { type BinlogTable, tableOf, withLabels } from './binlog-table.ts';
import type { Catalog, CatalogTable } from './catalog.ts';
import type { Connection } from './client.ts';
import { classify, lostPosition } from './errors.ts';
import { partsOf } from './query-tables.ts';
import type { TableDefinition } from './row-schema.ts';
import { type RowsEvent, readRowsEvent, rowsTableOf } from './rows-event.ts';
import { formOf, tableIdOf, tableMapOf, tableNameOf } from './table-map.ts';
import { truncatedTable } from './truncate-statement.ts';
import type { ReadValues } from './value-column.ts';
import {
  type BinlogCommand,
  createValueReader,
  type EventCallback,
  type Packet,
  type Step,
  type TableEntry,
} from './value-reader.ts';

/** A place between two transactions. `gtids`: all that came before it, where the server keeps GTIDs; it survives a failover. */
export interface BinlogPlace {
  readonly file: string;
  readonly pos: number;
  readonly gtids?: string;
}

/**
 * Changes of rows of one table, a table that was emptied, or the end of a transaction and where it is. Where the log has no names of columns: a
 * table whose columns are not known any more behind a statement, and one whose columns have to be known to go on, behind which nothing is to be taken.
 */
export type BinlogPart =
  | (RowsEvent & { readonly kind: 'rows'; readonly table: BinlogTable; readonly gtid: string | undefined })
  | Truncate
  | { readonly kind: 'end'; readonly place: BinlogPlace }
  | { readonly kind: 'altered' | 'unknown'; readonly table: string };

export interface Truncate {
  readonly kind: 'truncate';
  readonly timestampMs: number;
  readonly gtid: string | undefined;
  /** As its last rows were, or else as it is now: the log does not tell its columns. */
  readonly table: TableDefinition;
}

/** A binlog that is read from a place on. */
export interface BinlogReader {
  /** undefined: there is no more now. Not in the middle of a transaction, whose rest is waited for. */
  next(): Promise<BinlogPart | undefined>;
  /** Whether a part came before the time was over. Only where it follows the log. */
  arrived(waitMs: number, signal: AbortSignal): Promise<boolean>;
  /** Also of parts that were read before it was closed. */
  readonly values: ReadValues;
  /** Cuts both connections. */
  close(): void;
}

export interface BinlogOptions {
  readonly login: Connection['login'];
  /** Of the reader, as a replica has one: two of the same do not read at once. Undefined: one of its own. */
  readonly serverId: number | undefined;
  readonly place: BinlogPlace;
  /** Stays at the end of the log for what comes. Otherwise the server ends the stream there, and has then told of the log's own events as well. */
  readonly follows: boolean;
  /** By the name alone; what is read of others is passed over undecoded. */
  isIncluded(table: string): boolean;
  /** The name that a table of a statement is read by; undefined where it is not read. */
  tableNamed(name: string): string | undefined;
  /** Whether the server writes the names of columns into its log. */
  readonly hasNames: boolean;
  /** The columns of tables, which the log tells in part: as they are now, or where it has no names, as they were at the place. */
  readonly catalog: Catalog;
  /** The same of one table as it is now; undefined where there is none. Not asked where the log has no names. */
  lookUp(table: string): Promise<CatalogTable | undefined>;
  readonly signal: AbortSignal;
}

/** Of an event, with the checksum behind it where there is one. */
const headerBytes = 19;
const checksumBytes = 4;

/** So many bytes are read ahead of whoever takes the parts. */
const aheadBytes = 4 * 1024 * 1024;

const events = [...['tablemap', 'writerows', 'xid', 'query', 'rotate'], ...['gtid', 'anonymousgtid', 'mariadbgtid']];

/** By zongji, whose `nonBlock` mode ends at the end of the log; it does not tell of that end. */
export const openBinlog = (options: BinlogOptions): BinlogReader => {
  const zongji = new ZongJi({ ...options.login, dateStrings: true, jsonStrings: true, timezone: 'Z' } as never);
  const inner = zongji as unknown as Inner;
  const catalog = new Map(options.catalog);
  const parts: { readonly part: BinlogPart; readonly bytes: number }[] = [];
  const tables = new Map<number, { readonly told: Buffer; readonly table: BinlogTable }>();
  let values: ReadValues | undefined;
  /** The body of the event that describes a table, which came last. */
  let tableMap: Buffer = Buffer.alloc(0);
  let queuedBytes = 0;
  let paused = false;
  /** Packets that wait for a table to be looked up. */
  let held: (() => void)[] | undefined;
  let broken: (() => void) | undefined;
  /** How tables were told last, by name. */
  const forms = new Map<string, Buffer>();
  let ended = false;
  let failure: unknown;
  let isInTransaction = false;
  /** Of the transaction that began last: a statement that is all of it. */
  let isStatement = false;
  let hasRows = false;
  let last = options.place;
  let waiting: (() => void) | undefined;

  const checksum = () => (inner.useChecksum ? checksumBytes : 0);
  const wake = () => {
    waiting?.();
    waiting = undefined;
  };
  const something = () =>
    new Promise<void>((resolve) => {
      waiting = resolve;
    });
  const push = (part: BinlogPart, bytes: number) => {
    parts.push({ part, bytes });
    queuedBytes += bytes;
    if (queuedBytes > aheadBytes && !paused) {
      paused = true;
      inner.connection?.pause();
    }
    wake();
  };
  /** Between two transactions. Told once. */
  const pushEnd = (pos = inner.options.position) => {
    isInTransaction = false;
    hasRows = false;
    const file = inner.options.filename;
    if (last.file === file && last.pos === pos) return;
    const { gtidSet = '' } = zongji;
    last = { file, pos, ...(gtidSet === '' ? {} : { gtids: gtidSet }) };
    push({ kind: 'end', place: last }, 0);
  };

  /**
   * The rows behind a description of a table without names may be older than its present columns, and an ALTER TABLE that keeps their number
   * would give values to others in silence. Where the log has names and the catalogue the types, both must mean the same columns.
   */
  const isNamed = (told: DescribedTable, columns: readonly ColumnSchema[] | undefined): boolean => {
    const { columnNames: names, columnCount, schemaName, tableName } = told;
    if (names === undefined && !options.hasNames) {
      if (columns?.length === columnCount) return true;
      failure ??= lostPosition(
        `${schemaName}.${tableName} has ${columns?.length} columns, and rows at ${inner.options.filename}:${inner.options.position} have ${columnCount}: it was altered, and the binlog does not have the statement`,
      );
      return false;
    }
    const isSame = names?.every((name, i) => columns === undefined || columns[i]?.COLUMN_NAME === name) ?? false;
    if (isSame && names!.length === columnCount) return true;
    failure ??= new ConnectError(
      'CONFIG_INVALID',
      `rows of ${schemaName}.${tableName} at ${inner.options.filename}:${inner.options.position} have no names of columns in the binlog, and which those were is not known: SET GLOBAL binlog_row_metadata = FULL, and in the server's configuration, and then reset the offsets to read all rows again (sluice offsets reset)`,
    );
    return false;
  };

  const pushRows = (table: BinlogTable, event: RowsEvent) => {
    const { start, end } = event;
    if (start < end) push({ kind: 'rows', ...event, table, gtid: zongji.lastGtid }, end - start);
  };

  /** A transaction of its own. */
  const pushTruncate = (name: string, timestampMs: number) => {
    const known = [...tables.values()].findLast(({ table }) => `${table.database}.${table.name}` === name)?.table;
    const [database = '', ...rest] = name.split('.');
    const { columns = [], key: keyColumns = [] } = catalog.get(name) ?? {};
    const now = {
      columns: columns.map(({ COLUMN_NAME, COLUMN_TYPE }) => ({ name: COLUMN_NAME, type: COLUMN_TYPE })),
      keyColumns,
    };
    const table = known ?? { database, name: rest.join('.'), ...now };
    push({ kind: 'truncate', table, timestampMs, gtid: zongji.lastGtid }, 0);
  };

  /** Looks a table up that came, or was altered, after the catalog was read. What comes meanwhile is held, and taken behind `then`. */
  const lookUp = (name: string, then: () => void) => {
    const packets: (() => void)[] = [];
    held = packets;
    options
      .lookUp(name)
      .then((found) => {
        if (failure !== undefined) return;
        if (found === undefined) catalog.delete(name);
        else catalog.set(name, found);
        held = undefined;
        then();
        for (const take of packets) take();
        if (held === undefined) broken?.();
      })
      .catch((error: unknown) => {
        failure ??= toConnectError(error);
      })
      .finally(wake);
  };
  const pushUnknown = (table: string) => push({ kind: 'unknown', table }, 0);
  /** Of a table that a statement may have altered, the columns are known no more. */
  const forget = (query: string) => {
    const isAltered = mayAlter(query);
    for (const name of [...catalog.keys()].filter((name) => isAltered(...partsOf(name)))) {
      catalog.delete(name);
      // A server that is started anew may give their numbers again.
      for (const [id, { table }] of tables) if (`${table.database}.${table.name}` === name) tables.delete(id);
      push({ kind: 'altered', table: name }, 0);
    }
  };
  /** As it was looked up at the beginning, or since it was last told in another form. */
  const isKnown = (name: string, form: Buffer): boolean => {
    const last = forms.get(name);
    // A reader that follows may have been opened long ago.
    return last === undefined ? !options.follows && catalog.has(name) : last.equals(form);
  };

  zongji.on('ready', () => {
    const Binlog = inner.BinlogClass;
    values = createValueReader(Binlog, inner);
    inner.BinlogClass = class extends Binlog {
      constructor(callback: EventCallback) {
        super(callback);
        this.once('eof', () => {
          ended = true;
          if (options.follows) failure ??= new ConnectError('UNAVAILABLE', endedByServer, { retriable: true });
          // Behind the last transaction may be events of the log itself. They are passed, or an idle log would never look read.
          if (!isInTransaction) pushEnd();
          wake();
        });
      }
      override start(packet: Packet, connection: unknown): Step {
        super.start(packet, connection);
        return this.binlogData;
      }
      override binlogData(packet: Packet, connection: unknown): Step {
        if (held !== undefined) {
          const kept = keptPacket(packet);
          held.push(() => this.binlogData(kept, connection));
          return this.binlogData;
        }
        try {
          const { buffer, offset, end } = packet;
          const rowsOf = rowsTableOf(buffer, offset);
          if (rowsOf !== undefined) {
            const table = inner.tableMap[rowsOf] && tables.get(rowsOf)?.table;
            // Of others the library has passed over the table. Images are left as they are: it would make a value of each column.
            if (table !== undefined) pushRows(table, readRowsEvent(buffer, offset, end - checksum()));
            return this.binlogData;
          }
          const body = tableMapOf(buffer, offset, end - checksum());
          if (body !== undefined) {
            tableMap = body;
            // Each statement describes its tables anew, mostly as the last one did.
            const tableId = tableIdOf(tableMap);
            if (inner.tableMap[tableId] !== undefined && tables.get(tableId)?.told.equals(tableMap) === true) {
              isInTransaction = true;
              hasRows = true;
              return this.binlogData;
            }
            const name = tableNameOf(tableMap);
            if (!options.hasNames && options.isIncluded(name)) {
              if (!catalog.has(name)) {
                pushUnknown(name);
                return this.binlogData;
              }
              // The library would take the columns of another table that had its number before the server was started anew.
              delete inner.tableMap[tableId];
              return super.binlogData(packet, connection) && this.binlogData;
            }
            const form = Buffer.from(formOf(tableMap));
            if (options.isIncluded(name) && !isKnown(name, form)) {
              const kept = keptPacket(packet);
              lookUp(name, () => {
                forms.set(name, form);
                this.binlogData(kept, connection);
              });
              return this.binlogData;
            }
            forms.set(name, form);
          }
          return super.binlogData(packet, connection) && this.binlogData;
        } catch (error) {
          failure ??= toConnectError(error);
          wake();
          return this.binlogData;
        }
      }
    };
  });
  zongji.on('error', (error: unknown) => {
    broken = () => {
      // Behind the end of its log a server closes the connection.
      if (!ended) failure ??= lostOrBroken(error, options.place);
      wake();
    };
    if (held === undefined) broken();
  });
  zongji.on('binlog', (event: BinlogEvent) => {
    const bytes = (event as unknown as { size?: number }).size ?? 0;
    switch (event.getTypeName()) {
      case 'Gtid':
      case 'AnonymousGtid':
      case 'MariadbGtid':
        // Its transaction is at the same place for whoever comes here, also from before what the log holds of its own.
        pushEnd(event.nextPosition - bytes - headerBytes - checksum());
        isInTransaction = true;
        // MariaDB tells it; to MySQL what begins with no BEGIN is one.
        isStatement = (event as unknown as { standalone?: boolean }).standalone ?? true;
        return;
      case 'TableMap': {
        isInTransaction = true;
        hasRows = true;
        const described = event as unknown as DescribedTable;
        const { tableId } = described;
        const entry = inner.tableMap[tableId];
        if (entry?.columns === undefined || !isNamed(described, entry.columnSchemas)) return;
        tables.set(tableId, { told: Buffer.from(tableMap), table: tableOf(entry, event, catalog) });
        return;
      }
      case 'Xid':
        pushEnd();
        return;
      case 'Query': {
        const { query, schema } = event as unknown as { query: string; schema: string };
        const emptied = truncatedTable(query, schema);
        if (emptied === undefined && !options.hasNames) forget(query);
        // The library counts it among what is behind the place when the next one begins, and would send it again.
        if (isStatement && !beginsRows.test(query)) inner._trackGtidProgress('xid', event);
        isStatement = false;
        // Between the rows of a transaction may be statements that end nothing, such as MariaDB's DROP TEMPORARY TABLE.
        const end = () => {
          if (hasRows ? endsRows.test(query) : !beginsRows.test(query)) pushEnd();
        };
        const name = emptied && options.tableNamed(`${emptied.database}.${emptied.name}`);
        if (name === undefined) return end();
        const tell = () => {
          pushTruncate(name, (event as unknown as { timestamp: number }).timestamp);
          end();
        };
        if (catalog.has(name)) return tell();
        return options.hasNames ? lookUp(name, tell) : pushUnknown(name);
      }
      case 'Rotate':
        // Not the one that a stream begins with: it says where reading starts, which may be far before what is wanted.
        if (event.nextPosition > 0) pushEnd();
    }
  });
  inner._fetchTableInfo = function fetchTableInfo(event, next) {
    const name = `${event.schemaName}.${event.tableName}`;
    const columns = catalog.get(name)?.columns;
    if (!isNamed(event, columns)) return;
    if (columns === undefined)
      failure ??= new ConnectError('NOT_FOUND', `${name} is in the binlog, and no table of the server now`);
    else {
      const columnSchemas = columns.map(withLabels);
      inner.tableMap[event.tableId] = { columnSchemas, parentSchema: event.schemaName, tableName: event.tableName };
      next();
    }
    wake();
  };
  inner._skipSchema = (database, name) => !options.isIncluded(`${database}.${name}`);

  const close = () => {
    options.signal.removeEventListener('abort', close);
    failure ??= new ConnectError('STOPPED', 'reading the binlog was stopped');
    for (const connection of [inner.connection, inner.ctrlConnection]) {
      connection?.removeAllListeners('error');
      connection?.on('error', () => {});
      connection?.destroy();
      // Which only says goodbye: a server that is still sending would go on.
      connection?.stream.destroy();
    }
    wake();
  };
  options.signal.addEventListener('abort', close, { once: true });
  const { gtids, file, pos } = options.place;
  zongji.start({
    serverId: options.serverId ?? randomInt(2 ** 31, 2 ** 32),
    nonBlock: !options.follows,
    filename: file,
    position: pos,
    ...(gtids === undefined ? {} : { gtidSet: gtids }),
    includeEvents: events,
  });

  return {
    async next() {
      for (;;) {
        const taken = parts.shift();
        if (taken !== undefined) {
          queuedBytes -= taken.bytes;
          if (paused && queuedBytes <= aheadBytes / 2) {
            paused = false;
            // It may give more parts at once, and be paused again by them.
            inner.connection?.resume();
          }
          return taken.part;
        }
        if (failure !== undefined) throw failure;
        if (ended || (options.follows && !isInTransaction)) return undefined;
        await something();
      }
    },
    async arrived(waitMs, signal) {
      if (parts.length === 0 && failure === undefined) {
        const timeout = setTimeout(wake, waitMs);
        signal.addEventListener('abort', wake);
        await something();
        clearTimeout(timeout);
        signal.removeEventListener('abort', wake);
      }
      return parts.length > 0 || failure !== undefined;
    },
    values: (column, bytes) => values!(column, bytes),
    close,
  };
};

/** The server could not read its log from there: it was purged, or is another one. Also where another reader has the same id. */
const FATAL_READING_BINLOG = 1236;
const endedByServer = 'the server ended the stream of its binlog: it stops, or the connection was killed';
const sameId = /same server_uuid\/server_id/;

const lostOrBroken = (error: unknown, { file, pos, gtids }: BinlogPlace): ConnectError => {
  const { errno, message } = error as { readonly errno?: number; readonly message: string };
  if (sameId.test(message))
    return new ConnectError('UNAVAILABLE', `another reads the binlog with this serverId: ${message}`, {
      retriable: true,
      cause: error,
    });
  if (errno === FATAL_READING_BINLOG)
    return lostPosition(`the binlog can't be read from ${gtids ?? `${file}:${pos}`}: ${message}`);
  return classify(error, 'reading the binlog');
};

/** What this needs of zongji beyond its types. */
interface Inner {
  connection: InnerConnection | null;
  ctrlConnection: InnerConnection | null;
  useChecksum: boolean;
  BinlogClass: new (callback: EventCallback) => BinlogCommand;
  options: { filename: string; position: number };
  tableMap: Record<number, TableEntry>;
  /** Told of the end of a transaction. */
  _trackGtidProgress(event: 'xid', of: BinlogEvent): void;
  _skipSchema(database: string, table: string): boolean;
  _fetchTableInfo(event: DescribedTable, next: () => void): void;
}

type DescribedTable = Pick<TableMapEvent, 'schemaName' | 'tableName' | 'tableId' | 'columnCount' | 'columnNames'>;

interface InnerConnection {
  pause(): void;
  resume(): void;
  destroy(): void;
  readonly stream: { destroy(): void };
  removeAllListeners(event: string): void;
  on(event: string, listener: () => void): void;
}

const beginsRows = /^(BEGIN|SAVEPOINT|XA (START|END))\b/i;
const endsRows = /^(COMMIT|ROLLBACK(?! +(WORK +)?TO\b)|XA (COMMIT|ROLLBACK))\b/i;

/** The driver uses a packet again for the next one, and not what it points to. */
const keptPacket = (packet: Packet): Packet => Object.assign(Object.create(Object.getPrototypeOf(packet)), packet);

/** The transactions of a MySQL GTID set (`uuid:1-5`) or up to a MariaDB GTID position (`0-1-1234`). */
export interface Gtids {
  has(gtid: string): boolean;
}

const parsed = new Map<string, Gtids>();

export const gtidSetOf = (text: string): Gtids => {
  const known = parsed.get(text);
  if (known !== undefined) return known;
  const made = parse(text);
  parsed.set(text, made);
  return made;
};

const parse = (text: string): Gtids => {
  if (text.includes(':')) {
    const set = GtidSet.parse(text);
    return { has: (gtid) => set.contains(gtid) };
  }
  const position = MariadbGtidPosition.parse(text);
  return { has: (gtid) => position.covers(gtid) };
};
