import type { Offsets, Problem } from '../../shared/connect/connector.ts';
import type { FileOffset, FileSourceConfig } from './source-config.ts';
import type { StagedFile } from './two-phase.ts';

/** A kind of place for files: directories, or S3. */
export interface FileStore {
  reader(config: Pick<FileSourceConfig, 'path' | 'slice'>): FileReader;
  /** `own` names the task in a path: what a crash of it left is told from what another one has staged. */
  writer(root: string, own: string): FileWriter;
}

/** Opens the store that a path is in. */
export type OpenStore = (path: string) => FileStore;

export interface FileReader {
  /** The files that the path names, page by page, in name order. Those that the offsets say were read whole may be left out. */
  list(offsets: Offsets<FileOffset>, signal: AbortSignal): AsyncIterable<readonly FoundFile[]>;
  /** Why the path could not be read, whatever is there. */
  check(signal: AbortSignal): Promise<readonly Problem[]>;
  close(): Promise<void>;
}

export interface FoundFile {
  /** The name it was matched under: its partition. */
  readonly name: string;
  /** Where its next bytes are; undefined when nothing can have come since. */
  locate(offsets: Offsets<FileOffset>, signal: AbortSignal): Promise<Location | undefined>;
}

/** Where a partition's next bytes are. */
export interface Location {
  /** The partition. */
  readonly name: string;
  readonly path: string;
  /** Absent: from the start. */
  readonly after?: FileOffset;
  /** The file was moved away and its name belongs to another one by now: nothing is written behind its end any more. */
  readonly ended: boolean;
  /** The offset is that of the name the file had before: it must be committed before that name starts on its new file. */
  readonly adopted: boolean;
  /** Undefined: it is gone, and nothing of it was read. */
  open(signal: AbortSignal): Promise<StoredFile | undefined>;
  /** Called when it was read to its end. */
  readonly onDrained?: () => void;
}

/** The bytes of one open file as they are stored, compressed or not. */
export interface StoredFile {
  readonly path: string;
  /** As it was when the file was opened. */
  readonly size: number;
  readonly mtimeMs?: number;
  /** Not so on S3: a changed object is another one. */
  readonly mayGrow: boolean;
  /** How many bytes came, from `position` on; 0 at the end. Reading on where the last read ended is cheap. */
  read(target: Buffer, offset: number, length: number, position: number, signal?: AbortSignal): Promise<number>;
  /** What file a position in the content is in, of which `head` are the first bytes. */
  identityAt(head: Buffer, position: number): FileOffset['identity'];
  /** What is here instead of the file that an offset is of; undefined: it is this one. */
  differs(identity: FileOffset['identity'], head: Buffer): string | undefined;
  close(): Promise<void>;
}

/** What two phases need. Names are relative to the root. */
export interface FileWriter {
  /** What tells the files of an attempt from all others, in their names. */
  markOf(attempt: string): string;
  /** Whole and durable when it resolves, and seen by nobody. Nothing is left when it throws. */
  stage(file: NewFile, bytes: Uint8Array, signal: AbortSignal): Promise<StagedFile>;
  /** What is at a file's final name. */
  inspect(file: StagedFile): Promise<'nothing' | 'the file' | 'another'>;
  /**
   * Gives a file its final name, at once; durable when this resolves. False: it is not staged. A place where no file ever was (a
   * volume that is not mounted, a bucket that is gone) throws instead, or a batch would be taken for promoted.
   */
  promote(file: StagedFile): Promise<boolean>;
  /** No error where it is not staged. */
  discard(file: StagedFile): Promise<void>;
  /** Discards what this task staged so long ago. */
  sweep(olderThanMs: number): Promise<void>;
  /** How long after it was staged nothing can have removed a file, neither a sweep nor a rule of the place. */
  readonly trustedAgeMs: number;
  /** How many files may be staged or promoted at a time. */
  readonly width: number;
  /** Why nothing could be written. */
  check(signal: AbortSignal): Promise<readonly Problem[]>;
}

export interface NewFile {
  readonly final: string;
  /** Unique, also among attempts. */
  readonly id: string;
}
