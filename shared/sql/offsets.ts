import { type OffsetCommit, type Partition, partitionKey, type StoredOffset } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';
import type { Connection } from './session.ts';

/** The shape of a row of sluice_offsets (invariant 11). A newer one stops this reader. */
export const offsetsShape = 1;

/** The offsets of one connector, in the destination, moved in the transaction of the rows. */
export interface OffsetTable<C extends Connection> {
  read(connection: C): Promise<readonly StoredOffset[]>;
  /** Makes the table where it is missing. Outside of any transaction. */
  ensure(connection: C): Promise<void>;
  /**
   * Opens a transaction and moves the offsets in it, before any row, so that a zombie waits or fails before it writes. `mine`: an
   * earlier attempt of this commit had succeeded. Throws FENCED. After anything but `new` the transaction is to be rolled back.
   */
  begin(connection: C, commits: readonly OffsetCommit[]): Promise<'new' | 'mine'>;
  reset(
    connection: C,
    id: string,
    offsets: readonly { readonly partition: Partition; readonly offset: unknown }[],
    /** Statements of the same transaction, which are left out where the id was seen before. */
    also: readonly string[],
  ): Promise<void>;
}

/** A position that an operator sets. */
export interface Position {
  readonly partition: Partition;
  readonly offset: unknown;
}

/** A reset in one transaction. `isKnown` asks for its id and locks the rows, so that a zombie's repetition does nothing `also` does. */
export const resetWith = async <C extends Connection>(
  connection: C,
  isKnown: () => Promise<boolean>,
  statements: readonly string[],
  also: readonly string[],
): Promise<void> => {
  if (statements.length === 0) return;
  await asSystem(async () => {
    await connection.run('START TRANSACTION');
    const before = (await isKnown()) ? [] : also;
    await connection.run([...before, ...statements, 'COMMIT'].join(';'));
  });
};

/** In one order for all: two runs that take the same rows in it cannot deadlock. */
export const inKeyOrder = <K extends { readonly key: string }>(commits: readonly K[]): readonly K[] =>
  [...commits].sort((a, b) => (a.key < b.key ? -1 : 1));

/** Positions with the text that is stored, in the order of their keys. */
export const keyedPositions = (positions: readonly Position[]) =>
  inKeyOrder(positions.map(({ partition, offset }) => ({ key: partitionKey(partition), text: offsetText(offset) })));

export const offsetText = (offset: unknown): string => JSON.stringify(offset ?? null);

/** What `begin` gives for commits whose compare-and-set found another row than it wanted, by what is stored of them. */
export const missedOutcome = (
  missed: readonly OffsetCommit[],
  stored: readonly StoredOffset[],
  table: string,
): 'mine' => {
  const byKey = new Map(stored.map((one) => [one.key, one]));
  // The commit is all or nothing: one offset with our writeId proves that all of it happened.
  if (missed.some(({ key, writeId }) => byKey.get(key)?.writeId === writeId)) return 'mine';
  const { key, seq } = missed[0]!;
  const found = byKey.get(key)?.seq ?? 'none';
  throw new ConnectError(
    'FENCED',
    `the offset of ${key} is at commit ${found} in ${table}, this batch was read at ${seq}: another run or an operator moved it; nothing of the batch was written`,
  );
};

export interface OffsetRow {
  readonly partition: string;
  readonly seq: string;
  readonly write_id: string;
  readonly offset: string | null;
  readonly v: number;
}

export const storedOffset = ({ partition: key, seq, write_id: writeId, offset, v }: OffsetRow): StoredOffset => {
  if (v > offsetsShape)
    throw new ConnectError(
      'SHAPE_TOO_NEW',
      `the offset of ${key} in sluice_offsets has shape ${v}, this release reads ${offsetsShape}: use the release that wrote it`,
    );
  const partition = JSON.parse(key) as Partition;
  return { key, partition, offset: offset === null ? null : JSON.parse(offset), seq: Number(seq), writeId };
};

/** Whatever is wrong with an offset, no record is to blame for it. */
export const asSystem = async <T>(work: () => Promise<T>): Promise<T> => {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ConnectError) || error.blame === 'system') throw error;
    throw new ConnectError('UNEXPECTED', `sluice_offsets: ${error.message}`, { cause: error });
  }
};
