import { readStateFile, writeStateFile } from './state-file.ts';

export interface ShardPosition {
  /** The last record that is done with; absent: none, the shard is read from its start. */
  sequenceNumber?: string;
  closed?: true;
}

export interface StreamPositions {
  /** False at the very first start: the mapping's StartingPosition applies. */
  readonly known: boolean;
  get(shardId: string): ShardPosition | undefined;
  set(shardId: string, position: ShardPosition): void;
  /** Resolves when what was set is on disk. */
  saved(): Promise<void>;
}

/** A busy stream moves on a hundred times a second, and every write waits for the disk. */
const SAVE_DELAY_MS = 200;

/** Positions of one mapping in one stream. What a crash loses of them makes records come again; none is skipped. */
export async function openStreamPositions(path: string, streamArn: string): Promise<StreamPositions> {
  const recorded = (await readStateFile(path)) as
    | { streamArn: string; shards: Record<string, ShardPosition> }
    | undefined;
  const known = recorded?.streamArn === streamArn;
  const shards = new Map(known ? Object.entries(recorded.shards) : []);
  let timer: NodeJS.Timeout | undefined;
  let unsaved = false;
  let written = Promise.resolve();

  /** One write after the other, each of what is newest when it begins. */
  function save(): Promise<void> {
    clearTimeout(timer);
    timer = undefined;
    const write = written.then(() => {
      unsaved = false;
      return writeStateFile(path, { streamArn, shards: Object.fromEntries(shards) });
    });
    written = write.catch(() => {
      unsaved = true;
    });
    return write;
  }
  return {
    known,
    get: (shardId) => shards.get(shardId),
    set(shardId, position) {
      shards.set(shardId, position);
      unsaved = true;
      // What a full disk refuses is tried again with the next position, and by `saved`, which tells.
      timer ??= setTimeout(() => void save().catch(() => {}), SAVE_DELAY_MS);
    },
    saved: () => (unsaved ? save() : written),
  };
}
