import { batchOfGroups } from '../../shared/connect/batch.ts';
import {
  defineSource,
  type Offsets,
  type Poll,
  type Position,
  type SourceTask,
} from '../../shared/connect/connector.ts';
import { toConnectError } from '../../shared/connect/errors.ts';
import { identityAt } from './identity.ts';
import { listFiles } from './list-files.ts';
import { type Location, locate, overlay } from './locate-file.ts';
import { checkHead, type OpenFile, openFile, openHead } from './open-file.ts';
import { readSegment, type Segment } from './read-segment.ts';
import { declare } from './record-sides.ts';
import { FileOffset, FileSourceConfig, isGlob, topicOf } from './source-config.ts';

/** Files are partitions, and each partition of a batch is an item of the transaction that commits it (100 at most). */
const maxFilesPerPoll = 32;

export const fileSource = defineSource({
  type: 'file',
  config: FileSourceConfig,
  offset: FileOffset,
  replay: 'exact',
  topics: (config) => [config.topic ?? topicOf(config.path)],
  tasks: (config, maxTasks) =>
    isGlob(config.path) && maxTasks > 1
      ? Array.from({ length: maxTasks }, (_, index) => ({ ...config, slice: { index, of: maxTasks } }))
      : [config],
  async check({ config, signal }) {
    const problems: string[] = [];
    for (const name of await listFiles(config))
      await openAt(config, { name, path: name, ended: false, adopted: false }, signal)
        .then((file) => file?.content.close())
        .catch((error) => problems.push(toConnectError(error).message));
    return problems;
  },
  open: async ({ config }) => fileTask(config),
});

const openAt = async (
  config: FileSourceConfig,
  { name, path, after, ended }: Location,
  signal: AbortSignal,
): Promise<OpenFile | undefined> => {
  const headed = await openHead(path, signal);
  try {
    if (after !== undefined) checkHead(headed.head, path, after);
    const declared = declare(config.fields, config.keyFields);
    const file = await openFile(name, path, headed, after, config.follow && !ended, { config, declared, signal });
    if (file === undefined) await headed.content.close();
    return file;
  } catch (error) {
    await headed.content.close();
    throw error;
  }
};

const fileTask = (config: FileSourceConfig): SourceTask<FileOffset> => {
  let names: readonly string[] | undefined;
  let current: { readonly file: OpenFile; readonly location: Location } | undefined;
  /** The position at which a name of this listing had nothing more: asked again only after the next listing. */
  const drained = new Map<string, number>();
  const finished = new Map<string, number>();

  const leave = async () => {
    const { file } = current ?? {};
    current = undefined;
    await file?.content.close();
  };

  /** Opens the next file with something to read, if any is left in the listing. */
  const openNext = async (offsets: Offsets<FileOffset>, signal: AbortSignal): Promise<boolean> => {
    for (const name of names!) {
      if (drained.get(name) === (offsets.get({ file: name })?.position ?? 0)) continue;
      const location = await locate(name, { path: config.path, names: names!, offsets, finished, signal });
      const file = location && (await openAt(config, location, signal));
      if (location !== undefined && file !== undefined) {
        current = { file, location };
        return true;
      }
      drained.set(name, offsets.get({ file: name })?.position ?? 0);
    }
    return false;
  };

  const poll = async (offsets: Offsets<FileOffset>, budget: Parameters<SourceTask<FileOffset>['poll']>[1]) => {
    const { signal } = budget;
    const taken: Taken = { segments: [], stands: new Map(), moved: 0 };
    const limit = { rows: budget.maxRecords, bytes: budget.maxBytes };
    const now = overlay(offsets, taken.stands);
    // The runner may go on from an earlier place than the last poll's end.
    if (current !== undefined && !isAt(current.file, offsets.get(current.file.partition))) await leave();

    // Caught up is: a listing made in this poll, and nothing read since.
    let hasRead = names !== undefined;
    const readOn = async (): Promise<boolean> => {
      while (!signal.aborted && limit.rows > 0 && limit.bytes > 0 && taken.stands.size < maxFilesPerPoll) {
        names ??= await listFiles(config);
        if (current === undefined && !(await openNext(now, signal))) {
          names = undefined;
          drained.clear();
          if (!hasRead) return true;
          hasRead = false;
          continue;
        }
        const { file, location } = current!;
        const segment = await take(file, location, taken, limit, signal);
        hasRead ||= segment.rows > 0;
        if (segment.drained) {
          if (location.ended) finished.set(file.name, file.content.stats.ino);
          else drained.set(file.name, now.get(file.partition)?.position ?? 0);
          await leave();
        }
        if (location.adopted) return false;
      }
      return false;
    };

    try {
      return pollOf(taken, await readOn());
    } catch (error) {
      await leave();
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
    close: leave,
  };
};

const isAt = (file: OpenFile, offset: FileOffset | undefined): boolean =>
  offset?.position === file.position && offset.identity.inode === file.content.stats.ino;

/** What a poll has so far. */
interface Taken {
  readonly segments: Segment[];
  /** By name, where its partition stands. */
  readonly stands: Map<string, Position<FileOffset>>;
  moved: number;
}

/** Reads on in a file, and lowers the limit by what it gave. */
const take = async (
  file: OpenFile,
  { after, adopted }: Location,
  taken: Taken,
  limit: { rows: number; bytes: number },
  signal: AbortSignal,
): Promise<Segment> => {
  const before = file.position;
  const segment = await readSegment(file, limit, signal);
  taken.segments.push(segment);
  limit.rows -= segment.rows;
  limit.bytes -= segment.bytes;
  // Finding the end of a gzip file again costs all of it.
  if (segment.rows === 0) taken.moved += file.content.compressed ? file.position : file.position - before;
  if (segment.rows > 0 || after !== undefined || adopted) {
    const { stats } = file.content;
    const offset = {
      position: file.position,
      line: file.line,
      identity: identityAt(file.head, stats.ino, file.position),
      ...(segment.drained ? { end: { size: stats.size, mtimeMs: stats.mtimeMs } } : {}),
    };
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
  };
};
