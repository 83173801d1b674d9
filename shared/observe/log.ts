import type { Log } from '../runtime/run.ts';

/**
 * One JSON line per message on standard output, which Lambda keeps as the function's log. Fields are figures, names and positions,
 * never a record's content and never a secret.
 */
const levels = ['debug', 'info', 'warn', 'error'] as const;

export const jsonLog =
  (fields: Readonly<Record<string, unknown>>): Log =>
  (level, message, more) => {
    if (levels.indexOf(level) < lowest()) return;
    process.stdout.write(`${JSON.stringify({ level, message, ...fields, ...more })}\n`);
  };

/** `info`, unless SLUICE_LOG_LEVEL says otherwise: the local host asks for `debug`, which on AWS would be paid for by the line. */
const lowest = (): number => Math.max(0, levels.indexOf((process.env.SLUICE_LOG_LEVEL ?? 'info') as 'info'));
