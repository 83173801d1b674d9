import * as z from 'zod';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { FileWriter } from './store.ts';

/** A staged file that no commit promoted for so long is left from a crash before the commit. */
export const orphanAgeMs = 7 * 86_400_000;

const count = z.int().nonnegative();

const FileInDirectory = z.strictObject({ stage: z.string(), final: z.string(), bytes: count, crc32: count });

/** A multipart upload under the final name. */
const Upload = z.strictObject({
  upload: z.string(),
  final: z.string(),
  bytes: count,
  parts: z.array(z.string()).describe('Their ETags.'),
  md5: z.string().optional().describe('Of all bytes; absent where the bucket’s encryption makes other ETags than MD5.'),
});

export type StagedFile = z.output<typeof FileInDirectory> | z.output<typeof Upload>;

/** The prepared row of a put, as it is stored (invariant 11). `root` is the sink's path then: the config may change in between. */
const row = { root: z.string(), stagedAtMs: z.number() };
const PreparedFiles = z.discriminatedUnion('version', [
  z.strictObject({ version: z.literal(1), ...row, files: z.array(FileInDirectory) }),
  z.strictObject({ version: z.literal(2), ...row, files: z.array(Upload) }),
]);
export type PreparedFiles = z.output<typeof PreparedFiles>;

const newestVersion = 2;

/** Files of one store are of one shape. */
export const preparedFiles = (root: string, stagedAtMs: number, files: readonly StagedFile[]): PreparedFiles =>
  ({ version: files.every((file) => 'upload' in file) ? 2 : 1, root, stagedAtMs, files }) as PreparedFiles;

export const parsePrepared = (data: unknown): PreparedFiles => {
  const version = z.looseObject({ version: z.number() }).safeParse(data).data?.version;
  if (version !== undefined && version > newestVersion)
    throw new ConnectError(
      'SHAPE_TOO_NEW',
      `a prepared batch of files has shape ${version}, this release reads up to ${newestVersion}: run the newer release`,
    );
  const parsed = PreparedFiles.safeParse(data);
  if (parsed.success) return parsed.data;
  throw new ConnectError(
    'CORRUPT',
    `the prepared row of a batch of files is damaged: ${z.prettifyError(parsed.error)}`,
  );
};

/** Gives every staged file of a committed batch its final name; may be repeated, also by two runs at a time. */
export const promote = async (writer: FileWriter, { root, files, stagedAtMs }: PreparedFiles): Promise<void> => {
  const clashing: string[] = [];
  const lost: string[] = [];
  await inParallel(files as readonly StagedFile[], writer.width, async (file) => {
    if ((await writer.inspect(file)) === 'another') {
      clashing.push(file.final);
      return;
    }
    if (await writer.promote(file)) return;
    // Promoted before, and a consumer has taken it since; only an old one may have been swept instead.
    const isGone = (await writer.inspect(file)) === 'nothing';
    if (isGone && Date.now() - stagedAtMs > writer.trustedAgeMs) lost.push(file.final);
  });
  if (clashing.length > 0)
    throw new ConnectError(
      'CORRUPT',
      `other files than the ones committed are at their names below ${root}: ${clashing.join(', ')}; move them away`,
    );
  if (lost.length > 0)
    throw new ConnectError(
      'CORRUPT',
      `committed files are neither staged nor promoted below ${root}: ${lost.join(', ')}; if no consumer took them, rewind the connector's offset`,
    );
};

/** Removes the attempt's own staged files; nobody else knows their names. */
export const discard = async (writer: FileWriter, files: readonly StagedFile[]): Promise<void> => {
  // A failure here must not hide the one that led here; what stays is invisible and swept later.
  await inParallel(files, writer.width, (file) => writer.discard(file).catch(() => {}));
};

/** The first error ends it, when the work that was begun by then has ended: nothing goes on behind the caller's back. */
export const inParallel = async <T>(
  items: readonly T[],
  width: number,
  work: (item: T, index: number) => Promise<void>,
): Promise<void> => {
  const queue = items.entries();
  let failed = false;
  const worker = async () => {
    for (const [index, item] of queue) {
      if (failed) return;
      await work(item, index).catch((error) => {
        failed = true;
        throw error;
      });
    }
  };
  const done = await Promise.allSettled(Array.from({ length: Math.min(width, items.length) }, worker));
  for (const one of done) if (one.status === 'rejected') throw one.reason;
};
