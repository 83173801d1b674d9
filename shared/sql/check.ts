import type { Problem } from '../connect/connector.ts';
import { isCode } from '../connect/errors.ts';
import type { Connection } from './session.ts';
import { useOnce } from './use-once.ts';

/** What is found by looking through a connection, which is cut when the signal aborts; that there is none is the one problem. */
export const checkThrough = async <C extends Connection>(
  open: () => Promise<C>,
  signal: AbortSignal,
  look: (connection: C) => Promise<readonly Problem[]>,
): Promise<readonly Problem[]> => {
  let connection: C;
  try {
    connection = await open();
  } catch (error) {
    return [(error as Error).message];
  }
  return useOnce(connection, signal, look);
};

/** A table that no record could go to is a problem like any other. */
export const told = (error: unknown): readonly Problem[] => {
  if (isCode(error, 'CONFIG_INVALID')) return [error.message];
  throw error;
};
