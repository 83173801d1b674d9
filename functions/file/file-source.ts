import { isDeepStrictEqual } from 'node:util';
import { batchOfGroups } from '../../shared/connect/batch.ts';
import {
  defineSource,
  movedBytes,
  type Offsets,
  type Poll,
  type Position,
  type SourceTask,
} from '../../shared/connect/connector.ts';
import { toConnectError } from '../../shared/connect/errors.ts';
import { endOf, lostPosition, type OpenFile, openFile, openHead } from './open-file.ts';
import { openStore } from './open-store.ts';
import { isMany, topicOf } from './path-config.ts';
import { readSegment, type Segment } from './read-segment.ts';
import { declare } from './record-sides.ts';
import { FileOffset, FileSourceConfig } from './source-config.ts';
import type { FileReader, FoundFile, Location, OpenStore } from './store.ts';

/** Files are partitions, and each partition of a batch is an item of the transaction that commits it (100 at most). */
const maxFilesPerPoll = 32;

/** A group of a batch has so much of a file: converting and encoding pass over it column by column, and find it in the processor's cache. */
const segmentBytes = 1024 * 1024;

/** `check` opens no more: each is a request on S3, and what is wrong with one is mostly wrong with all. */
const maxFilesChecked = 100;

/** Reads files from where they are, in order, each to its end and on from there. */
export const createFileSource = (openStore: OpenStore) =>
  defineSource({
    type: 'file',
    config: FileSourceConfig,
    offset: FileOffset,
    replay: 'exact',
    topics: (config) => [config.topic ?? topicOf(config.path)],
    tasks: (config, maxTasks) =>
      isMany(config.path) && maxTasks > 1
        ? Array.from({ length: maxTasks }, (_, index) => ({ ...config, slice: { index, of: maxTasks } }))
        : [config],
    async check({ config, signal }) {
      try {
        const reader = openStore(config.path).reader(config);
        const problems = await reader.check(signal);
        return problems.length > 0 ? problems : await checkFiles(config, reader, signal);
      } catch (error) {
        return [toConnectError(error).message];
      }
    },
    open: async ({ config }) => fileTask(config, openStore(config.path).reader(config)),
  });

export const fileSource = createFileSource(openStore);

const noOffsets: Offsets<FileOffset> = { get: () => undefined, all: () => [] };

const checkFiles = async (config: FileSourceConfig, reader: FileReader, signal: AbortSignal): Promise<string[]> => {
  const problems: string[] = [];
  let checked = 0;
  for await (const page of reader.list(noOffsets, signal))
    for (const found of page) {
      if (checked++ === maxFilesChecked) return problems;
      await found
        .locate(noOffsets, signal)
        .then((location) => location && openAt(config, location, signal))
        .then((file) => file?.content.close())
        .catch((error) => problems.push(toConnectError(error).message));
    }
  return problems;
};

const openAt = async (
  config: FileSourceConfig,
  location: Location,
  signal: AbortSignal,
): Promise<OpenFile | undefined> => {
  const stored = await location.open(signal);
  if (stored === undefined) return undefined;
  const headed = await openHead(stored, signal);
  try {
    const { path, after } = location;
    const found = after && stored.differs(after.identity, headed.head);
    if (found !== undefined) throw lostPosition(path, after!, found);
    const declared = declare(config.fields, config.keyFields);
    const file = await openFile(location, headed, { config, declared, signal });
    if (file === undefined) await headed.content.close();
    return file;
  } catch (error) {
    await headed.content.close();
    throw error;
  }
};

const fileTask = (config: FileSourceConfig, reader: FileReader): SourceTask<FileOffset> => {
  let listing: Listing | undefined;
  let current: { readonly file: OpenFile; readonly location: Location } | undefined;
  /** Where the last poll left the files that it read. */
  let left: Taken['stands'] = new Map();

  const leave = async () => {
    const { file } = current ?? {};
    current = undefined;
    await file?.content.close();
  };

  /** Opens the next file with something to read, if any is left in the listing. */
  const openNext = async (offsets: Offsets<FileOffset>, signal: AbortSignal): Promise<boolean> => {
    for (let found = await listing!.at(); found !== undefined; found = await listing!.next()) {
      const location = await found.locate(offsets, signal);
      const file = location && (await openAt(config, location, signal));
      if (location === undefined || file === undefined) continue;
      current = { file, location };
      return true;
    }
    return false;
  };

  const poll = async (offsets: Offsets<FileOffset>, budget: Parameters<SourceTask<FileOffset>['poll']>[1]) => {
    const { signal } = budget;
    const taken: Taken = { segments: [], stands: new Map(), moved: 0 };
    const limit = { rows: budget.maxRecords, bytes: budget.maxBytes };
    const now = overlay(offsets, taken.stands);
    // The runner may go on from an earlier place than the last poll's end: then what was passed in the listing is to be read again.
    // And a file that is open may have been written anew in its place.
    if (!isWhereLeft(left, offsets) || (current !== undefined && !(await isStill(current.file)))) {
      await leave();
      listing = undefined;
    }
    left = taken.stands;

    // Caught up is: a listing made in this poll, and nothing read since.
    let hasRead = listing !== undefined;
    const readOn = async (): Promise<boolean> => {
      while (!signal.aborted && limit.rows > 0 && limit.bytes > 0 && taken.stands.size < maxFilesPerPoll) {
        listing ??= listingOf(reader.list(now, signal));
        if (current === undefined && !(await openNext(now, signal))) {
          listing = undefined;
          if (!hasRead) return true;
          hasRead = false;
          continue;
        }
        const { file, location } = current!;
        const isKnown = location.adopted || now.get(file.partition) !== undefined;
        const segment = await take(file, isKnown, taken, limit, signal);
        hasRead ||= segment.rows > 0;
        if (segment.drained) {
          location.onDrained?.();
          // The name of a file that was moved away is another file's by now, and that one is still to be read.
          if (!location.ended && !location.adopted) await listing.next();
          await leave();
        }
        // A record that large waits for a poll of its own, which has memory for it.
        if (location.adopted || file.tail.length > segmentBytes) return false;
      }
      return false;
    };

    try {
      return pollOf(taken, await readOn());
    } catch (error) {
      await leave();
      listing = undefined;
      // What came before goes first; the next poll comes to the same error.
      if (signal.aborted || taken.stands.size > 0) return pollOf(taken, false);
      throw error;
    }
  };

  return {
    poll,
    async more(offsets) {
      const one = await poll(offsets, { maxRecords: 1, maxBytes: 1, signal: new AbortController().signal });
      return one.batch.count + (one.rejected?.length ?? 0) > 0;
    },
    async close() {
      await leave();
      await reader.close();
    },
  };
};

interface Listing {
  /** The file whose turn it is; undefined behind the last one. */
  at(): Promise<FoundFile | undefined>;
  next(): Promise<FoundFile | undefined>;
}

/** A place in a listing that is read page by page, so that neither its length nor its place costs anything. */
const listingOf = (pages: AsyncIterable<readonly FoundFile[]>): Listing => {
  const iterator = pages[Symbol.asyncIterator]();
  let page: readonly FoundFile[] = [];
  let index = 0;
  const at = async (): Promise<FoundFile | undefined> => {
    while (index >= page.length) {
      const { done, value } = await iterator.next();
      if (done === true) return undefined;
      page = value;
      index = 0;
    }
    return page[index];
  };
  return {
    at,
    next() {
      index++;
      return at();
    },
  };
};

const isWhereLeft = (left: Taken['stands'], offsets: Offsets<FileOffset>): boolean =>
  left.values().every(({ partition, offset }) => {
    const now = offsets.get(partition);
    return now?.position === offset.position && isDeepStrictEqual(now.identity, offset.identity);
  });

/** Whether an open file still begins as it did; what a compressed one begins with is too far to look for. */
const isStill = async ({ head, content: { stored, compressed } }: OpenFile): Promise<boolean> => {
  if (!stored.mayGrow || compressed) return true;
  const now = Buffer.alloc(head.length);
  const length = await stored.read(now, 0, head.length, 0);
  return now.subarray(0, length).equals(head);
};

/** Offsets with those of this poll over them. */
const overlay = (
  offsets: Offsets<FileOffset>,
  newer: ReadonlyMap<string, Position<FileOffset>>,
): Offsets<FileOffset> => ({
  get: (partition) => newer.get(String(partition.file))?.offset ?? offsets.get(partition),
  *all() {
    yield* newer.values();
    for (const position of offsets.all()) if (!newer.has(String(position.partition.file))) yield position;
  },
});

/** What a poll has so far. */
interface Taken {
  readonly segments: Segment[];
  /** By name, where its partition stands. */
  readonly stands: Map<string, Position<FileOffset>>;
  moved: number;
}

/** Reads on in a file, and lowers the limit by what it gave. A file that is not known yet gets no offset before its first record. */
const take = async (
  file: OpenFile,
  isKnown: boolean,
  taken: Taken,
  limit: { rows: number; bytes: number },
  signal: AbortSignal,
): Promise<Segment> => {
  const before = file.position;
  const segment = await readSegment(file, { ...limit, bytes: Math.min(limit.bytes, segmentBytes) }, signal);
  taken.segments.push(segment);
  limit.rows -= segment.rows;
  limit.bytes -= segment.bytes;
  // Finding the end of a gzip file again costs all of it.
  if (segment.rows === 0) taken.moved += file.content.compressed ? file.position : file.position - before;
  // The end of an object is worth a commit at once, even alone: to find it again is a request for every look.
  if (segment.rows === 0 && segment.drained && !file.content.stored.mayGrow) taken.moved += movedBytes;
  if (segment.rows > 0 || isKnown) {
    const end = segment.drained ? { end: endOf(file.content.stored) } : {};
    const offset = { ...file.offsetAt(file.position, file.line), ...end };
    taken.stands.set(file.name, { partition: file.partition, offset });
  }
  return segment;
};

const pollOf = ({ segments, stands, moved }: Taken, caughtUp: boolean): Poll<FileOffset> => {
  const filled = segments.filter((segment) => segment.group !== undefined);
  let before = 0;
  const rejected = segments.flatMap((segment) => {
    const shifted = segment.rejected.map((one) => ({ ...one, index: one.index + before }));
    before += segment.group?.count ?? 0;
    return shifted;
  });
  return {
    batch: batchOfGroups(filled.map((segment) => segment.group!)),
    position(index) {
      let row = index;
      for (const segment of filled) {
        if (row < segment.group!.count) return { partition: segment.partition, offset: segment.offsetAt(row) };
        row -= segment.group!.count;
      }
      throw new RangeError(`record ${index} of a batch of ${before}`);
    },
    offsets: [...stands.values()],
    caughtUp,
    ...(moved === 0 ? {} : { moved }),
    ...(rejected.length === 0 ? {} : { rejected }),
    release() {
      for (const segment of segments) segment.free();
    },
  };
};
