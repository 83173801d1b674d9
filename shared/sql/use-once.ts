import type { Connection } from './session.ts';

/** Works with a connection that is cut when the signal aborts, and then ends it: by `end`, or it is closed. */
export const useOnce = async <C extends Pick<Connection, 'destroy' | 'close'>, T>(
  connection: C,
  signal: AbortSignal,
  work: (connection: C) => Promise<T>,
  end: (connection: C) => void | Promise<void> = (used) => used.close(),
): Promise<T> => {
  const cut = () => connection.destroy();
  signal.addEventListener('abort', cut, { once: true });
  try {
    return await work(connection);
  } finally {
    signal.removeEventListener('abort', cut);
    await end(connection);
  }
};
