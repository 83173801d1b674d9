import type { ColumnInfo, ColumnSchema } from '@vlasky/zongji';
import type { ReadValues } from './value-column.ts';

/** What zongji knows of a table, by its id in the binlog. */
export interface TableEntry {
  columnSchemas: ColumnSchema[];
  parentSchema: string;
  tableName: string;
  columns?: ColumnInfo[];
}

/** A packet of the binlog, as mysql2 has it. */
export interface Packet {
  readonly buffer: Buffer;
  offset: number;
  end: number;
  isEOF(): boolean;
  isError(): boolean;
}

/** zongji's command to send the binlog: each packet is given to the step that the last one answered. */
export interface BinlogCommand {
  start(packet: Packet, connection: unknown): Step;
  binlogData(packet: Packet, connection: unknown): Step;
  once(event: 'eof', listener: () => void): void;
}
export type Step = ((packet: Packet, connection: unknown) => Step) | null;

export type EventCallback = (error: unknown, event: { readonly rows?: readonly Record<string, unknown>[] }) => void;

interface Library {
  readonly useChecksum: boolean;
  readonly tableMap: Record<number, TableEntry>;
}

/** No table of a server has it. */
const tableId = 2 ** 48 - 1;
const WRITE_ROWS = 0x17;
/** Of a packet's first byte and an event's header. */
const headBytes = 20;

/** Has the library read values of a column: as rows of an event that it is given like one of the server's. */
export const createValueReader = (
  Command: new (callback: EventCallback) => BinlogCommand,
  library: Library,
): ReadValues => {
  let rows: readonly Record<string, unknown>[] = [];
  const command = new Command((error, event) => {
    if (error) throw error;
    rows = event.rows ?? [];
  });
  const checksum = Buffer.alloc(library.useChecksum ? 4 : 0);
  return ({ info, schema }, values) => {
    library.tableMap[tableId] = { columns: [info], columnSchemas: [schema], parentSchema: '', tableName: '' };
    const buffer = Buffer.concat([eventHead, ...values.flatMap((value) => [noNull, value]), checksum]);
    const packet = { buffer, offset: 0, end: buffer.length, isEOF: () => false, isError: () => false };
    command.binlogData(packet, undefined);
    return rows.map((row) => row[info.name]);
  };
};

/** An event of version 1, whose table has one column that its images have. */
const eventHead = Buffer.alloc(headBytes + 6 + 2 + 1 + 1);
eventHead[5] = WRITE_ROWS;
eventHead.writeUIntLE(tableId, headBytes, 6);
eventHead[headBytes + 8] = 1;
eventHead[headBytes + 9] = 1;

/** The bitmap before each row. */
const noNull = Buffer.alloc(1);
