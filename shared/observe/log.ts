import type { Log } from '../runtime/run.ts';

/**
 * One JSON line per message on standard output, which Lambda keeps as the function's log. Fields are figures, names and positions,
 * never a record's content and never a secret.
 */
export const jsonLog =
  (fields: Readonly<Record<string, unknown>>): Log =>
  (level, message, more) => {
    process.stdout.write(`${JSON.stringify({ level, message, ...fields, ...more })}\n`);
  };
