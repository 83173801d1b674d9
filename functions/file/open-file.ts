import type { Partition } from '../../shared/connect/connector.ts';
import { ConnectError } from '../../shared/connect/errors.ts';
import { NEWLINE } from './ascii.ts';
import { type Content, openContent } from './content.ts';
import { csvRows, readHeader } from './csv.ts';
import { headBytes } from './identity.ts';
import { jsonArray } from './json-array.ts';
import { jsonLines } from './json-lines.ts';
import { topicOf } from './path-config.ts';
import type { Declared } from './record-sides.ts';
import type { RowReader } from './rows.ts';
import { type FileFormat, type FileOffset, type FileSourceConfig, formatOf } from './source-config.ts';
import type { Location, StoredFile } from './store.ts';
import { textLines } from './text-lines.ts';
import { fillWindow, openWindow } from './window.ts';

/** A file that is being read, kept from poll to poll until its end. */
export interface OpenFile {
  /** The name it was matched under: its partition. */
  readonly name: string;
  readonly partition: Partition;
  /** Where it is: elsewhere than `name` says when it was rotated. */
  readonly path: string;
  readonly topic: string;
  readonly content: Content;
  readonly reader: RowReader;
  /** A last line without a newline waits for the rest of it. */
  readonly follow: boolean;
  /** The first bytes of the content, up to `headBytes`: more when the file was shorter when it was opened. */
  head: Buffer;
  position: number;
  line: number;
  /** Bytes from `position` on that were read already. */
  tail: Buffer;
  /** Of the last batch: how much room to make. */
  expected: { rows: number; bytes: number };
  /** The offset of a record that ends here. */
  offsetAt(position: number, line: number): FileOffset;
}

export interface OpenOptions {
  readonly config: FileSourceConfig;
  readonly declared: Declared;
  readonly signal: AbortSignal;
}

/** A file of which only the first bytes were read. */
export interface HeadedContent {
  readonly content: Content;
  readonly head: Buffer;
}

/** Takes the file over: closes it where it throws. */
export const openHead = async (stored: StoredFile, signal: AbortSignal): Promise<HeadedContent> => {
  let content: Pick<Content, 'close'> = stored;
  try {
    const opened = await openContent(stored, signal);
    content = opened;
    const head = Buffer.alloc(headBytes);
    let length = 0;
    for (;;) {
      const read = await opened.read(head, length, headBytes - length, length, signal).catch((error) => {
        // What comes before a corrupt place is still to be delivered.
        if (length > 0 && error instanceof ConnectError) return 0;
        throw error;
      });
      if (read === 0) return { content: opened, head: head.subarray(0, length) };
      length += read;
    }
  } catch (error) {
    await content.close();
    throw error;
  }
};

/** The bytes of a byte order mark, which is no content. */
export const markBytes = (head: Buffer): number => (head[0] === 0xef && head[1] === 0xbb && head[2] === 0xbf ? 3 : 0);

/** Goes on in a file after an offset; without one, at its first record. Undefined while its header line is not whole. */
export const openFile = async (
  { name, path, after, ended }: Location,
  { content, head }: HeadedContent,
  { config, declared, signal }: OpenOptions,
): Promise<OpenFile | undefined> => {
  const follow = config.follow && !ended;
  const format = config.format ?? formatOf(name);
  const first = markBytes(head);
  let start = { position: after === undefined ? 0 : after.position, line: after?.line ?? 0 };
  let reader: RowReader;
  if (format === 'csv') {
    const delimiter = config.delimiter ?? (/\.tsv(\.gz)?$/i.test(name) ? '\t' : ',');
    const header = Array.isArray(config.header)
      ? { names: config.header, position: first, lines: 0 }
      : await headerOf(content, path, first, delimiter, { follow, signal });
    if (header === undefined) return undefined;
    if (after === undefined) start = { position: header.position, line: header.lines };
    reader = csvRows(header.names, declared, { delimiter, null: config.null }, path);
  } else
    reader = format === 'jsonl' ? jsonLines(declared) : format === 'json' ? jsonArray(declared, path) : textLines();
  if (after !== undefined) await checkPosition(content, path, after, format, signal);
  const file: OpenFile = {
    name,
    partition: { file: name },
    path,
    topic: config.topic ?? topicOf(config.path),
    content,
    reader,
    follow,
    head,
    ...start,
    tail: head.subarray(start.position),
    expected: { rows: 256, bytes: 0 },
    offsetAt: (position, line) => offsetAt(file, position, line),
  };
  return file;
};

/** Where nothing can be added, the record that ends at the end is known for the last one: no look at the file will tell so again. */
const offsetAt = ({ content, head }: OpenFile, position: number, line: number): FileOffset => {
  const { stored, compressed } = content;
  const identity = stored.identityAt(head, position);
  const isLast = !stored.mayGrow && !compressed && position === stored.size;
  return { position, line, identity, ...(isLast ? { end: endOf(stored) } : {}) };
};

/** That a file was read to its end. */
export const endOf = ({ size, mtimeMs }: StoredFile): NonNullable<FileOffset['end']> =>
  mtimeMs === undefined ? { size } : { size, mtimeMs };

const headerOf = async (
  content: Content,
  path: string,
  first: number,
  delimiter: string,
  { follow, signal }: { follow: boolean; signal: AbortSignal },
) => {
  const window = openWindow(0, Buffer.alloc(0), 0);
  for (;;) {
    await fillWindow(window, content, path, signal);
    if (window.failure !== undefined) throw window.failure;
    const header = readHeader(window, first, delimiter, window.atEnd && !follow);
    if (header !== undefined || window.atEnd) return header;
  }
};

/** Refuses an offset beyond the end, and one after a last line that has grown since: it was no whole record. */
const checkPosition = async (
  content: Content,
  path: string,
  after: FileOffset,
  format: FileFormat,
  signal: AbortSignal,
): Promise<void> => {
  if (after.position === 0) return;
  const around = Buffer.alloc(2);
  let read = 0;
  // The last byte of the record and the next one; a gzip file may give them one by one.
  while (read < 2) {
    const more = await content.read(around, read, 2 - read, after.position - 1 + read, signal);
    if (more === 0) break;
    read += more;
  }
  if (read === 0) throw lostPosition(path, after, 'it now ends before that');
  if (read === 1 || around[0] === NEWLINE || format === 'json') return;
  throw new ConnectError(
    'LOST_POSITION',
    `${path}: line ${after.line + 1} had no newline and was read as whole, up to byte ${after.position}, but the file has grown since. ` +
      'Set `follow: true` for a file that grows, and start it over with `sluice offsets reset`',
  );
};

export const lostPosition = (path: string, offset: FileOffset, found: string): ConnectError =>
  new ConnectError(
    'LOST_POSITION',
    `${path} was read up to byte ${offset.position} (line ${offset.line}), but ${found}: it was replaced or truncated. ` +
      'Restore the file, or start over with what is there now by `sluice offsets reset`',
  );
