import type { Stats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { ConnectError } from '../../shared/connect/errors.ts';
import { hasHead, headBytes, identityAt } from './identity.ts';
import type { FileOffset } from './source-config.ts';
import type { StoredFile } from './store.ts';

export const openLocal = async (path: string): Promise<StoredFile> => {
  const handle = await open(path, 'r').catch((cause) => {
    throw fileError(path, cause);
  });
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw fileError(path, Object.assign(new Error('no regular file'), { code: 'EISDIR' }));
    return localFile(path, handle, stats);
  } catch (cause) {
    await handle.close();
    throw cause instanceof ConnectError ? cause : fileError(path, cause);
  }
};

const localFile = (path: string, handle: FileHandle, { size, mtimeMs, ino }: Stats): StoredFile => {
  // Asked for record by record, and the same for all but the first ones.
  let known: FileOffset['identity'] | undefined;
  return {
    path,
    size,
    mtimeMs,
    mayGrow: true,
    async read(target, offset, length, position) {
      const { bytesRead } = await handle.read(target, offset, length, position).catch((cause) => {
        throw fileError(path, cause);
      });
      return bytesRead;
    },
    identityAt(head, position) {
      if (position < headBytes) return identityAt(head, ino, position);
      known ??= identityAt(head, ino, headBytes);
      return known;
    },
    differs: (identity, head) => (hasHead(identity, head) ? undefined : 'it now begins with other bytes'),
    close: () => handle.close(),
  };
};

/** What the file system says, in the operator's words. */
export const fileError = (path: string, cause: unknown): ConnectError => {
  const code = (cause as NodeJS.ErrnoException | undefined)?.code;
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new ConnectError('NOT_FOUND', `${path} does not exist; create it, or correct \`path\``, {
        cause,
        retriable: true,
      });
    case 'EISDIR':
      return new ConnectError('CONFIG_INVALID', `${path} is no file; for the files in a directory use ${path}/*`, {
        cause,
      });
    case 'EACCES':
    case 'EPERM':
      return new ConnectError('UNAVAILABLE', `${path} may not be read by this user; grant read permission`, { cause });
    default:
      return new ConnectError('UNAVAILABLE', `${path} can't be read: ${(cause as Error)?.message}`, {
        cause,
        retriable: true,
      });
  }
};
