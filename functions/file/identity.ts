import { createHash } from 'node:crypto';
import type { FileOffset } from './source-config.ts';

/** So many first bytes tell one file from another. */
export const headBytes = 1024;

type Identity = FileOffset['identity'];

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex').slice(0, 16);

/**
 * What file a position is in. It depends on the position and the content alone, never on how far a poll came, because offsets are
 * part of each record's identity (invariant 3).
 */
export const identityAt = (head: Buffer, inode: number, position: number): Identity & { readonly inode: number } => {
  const bytes = Math.min(headBytes, position);
  return { head: digest(head.subarray(0, bytes)), bytes, inode };
};

/** Whether a file begins with the bytes that the offset's file began with. */
export const hasHead = (identity: Identity, head: Buffer): boolean =>
  'head' in identity && head.length >= identity.bytes && digest(head.subarray(0, identity.bytes)) === identity.head;
