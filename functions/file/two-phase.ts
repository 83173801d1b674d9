import { crc32 } from 'node:zlib';
import * as z from 'zod';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { FileStore } from './store.ts';

/** Below `path`; the dot hides it from readers. */
export const stagingDirectory = '.staging';

const dayMs = 86_400_000;
/** A staged file that no commit promoted for so long is left from a crash before the commit. */
const orphanAgeMs = 7 * dayMs;
/** Up to this age no orphan sweep can have removed a staged file. A day less than that, for clocks that differ. */
const trustedAgeMs = 6 * dayMs;

const shapeVersion = 1;

const StagedFile = z.strictObject({
  stage: z.string(),
  final: z.string(),
  bytes: z.int().nonnegative(),
  crc32: z.int().nonnegative(),
});
export type StagedFile = z.output<typeof StagedFile>;

/** The prepared row of a put, as it is stored (invariant 11). `root` is the sink's path then: the config may change in between. */
const PreparedFiles = z.strictObject({
  version: z.literal(shapeVersion),
  root: z.string(),
  stagedAtMs: z.number(),
  files: z.array(StagedFile),
});
export type PreparedFiles = z.output<typeof PreparedFiles>;

export const parsePrepared = (data: unknown): PreparedFiles => {
  const version = z.looseObject({ version: z.number() }).safeParse(data).data?.version;
  if (version !== undefined && version > shapeVersion)
    throw new ConnectError(
      'SHAPE_TOO_NEW',
      `a prepared batch of files has shape ${version}, this release reads up to ${shapeVersion}: run the newer release`,
    );
  const parsed = PreparedFiles.safeParse(data);
  if (parsed.success) return parsed.data;
  throw new ConnectError(
    'CORRUPT',
    `the prepared row of a batch of files is damaged: ${z.prettifyError(parsed.error)}`,
  );
};

export const stage = async (
  store: FileStore,
  names: { readonly stage: string; readonly final: string },
  bytes: Uint8Array,
): Promise<StagedFile> => {
  await store.write(names.stage, bytes);
  return { ...names, bytes: bytes.length, crc32: crc32(bytes) };
};

/** Gives every staged file of a committed batch its final name; may be repeated, also by two runs at a time. */
export const promote = async (store: FileStore, { root, files, stagedAtMs }: PreparedFiles): Promise<void> => {
  const clashing: string[] = [];
  const lost: string[] = [];
  for (const file of files) {
    const there = await store.inspect(file.final);
    if (there !== undefined && (there.bytes !== file.bytes || there.crc32 !== file.crc32)) {
      clashing.push(file.final);
      continue;
    }
    if (await store.move(file.stage, file.final)) continue;
    // Promoted before, and a consumer has taken it since; only an old one may have been swept instead.
    const isThere = (await store.inspect(file.final)) !== undefined;
    if (!isThere && Date.now() - stagedAtMs > trustedAgeMs) lost.push(file.final);
  }
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
export const discard = async (store: FileStore, stages: readonly string[]): Promise<void> => {
  // A failure here must not hide the one that led here; what stays is invisible and swept later.
  await Promise.allSettled(stages.map((path) => store.remove(path)));
};

/** Removes what crashed attempts left. To be called after every prepared batch was promoted. */
export const sweepOrphans = async (store: FileStore, directory: string): Promise<void> => {
  for (const { path, modifiedMs } of await store.list(directory))
    if (Date.now() - modifiedMs > orphanAgeMs) await store.remove(path);
};
