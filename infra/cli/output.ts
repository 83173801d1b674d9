import { type ConnectError, toConnectError } from '../../shared/connect/errors.ts';

/** 0: done. 1: failed while running. 2: the input is wrong. 3: the environment is. 130: interrupted. */
export const exitCodes = { ok: 0, failed: 1, invalid: 2, environment: 3, interrupted: 130 } as const;

export interface OutputOptions {
  readonly json?: boolean;
}

/** What a command has to say: lines for people, or one JSON envelope. */
export interface Answer {
  readonly lines: readonly string[];
  readonly result?: unknown;
  readonly exitCode?: number;
}

/** Runs a command and writes its answer; an error becomes a message and an exit code, never a stack trace. */
export const answerWith = async (
  command: string,
  { json = false }: OutputOptions,
  run: () => Promise<Answer>,
): Promise<void> => {
  try {
    const { lines, result, exitCode = exitCodes.ok } = await run();
    process.exitCode = exitCode;
    if (json) writeLine(JSON.stringify({ command, ok: exitCode === exitCodes.ok, result: result ?? lines }));
    else for (const line of lines) writeLine(line);
  } catch (thrown) {
    const error = toConnectError(causeOf(thrown));
    process.exitCode = exitCodeOf(error);
    if (json) writeLine(JSON.stringify({ command, ok: false, error: { code: error.code, message: error.message } }));
    else process.stderr.write(`sluice ${command}: ${error.message}\n`);
  }
};

/** Where the end failed too, what went wrong first is what to tell. */
const causeOf = (thrown: unknown): unknown =>
  thrown instanceof Error && thrown.name === 'SuppressedError' ? (thrown as SuppressedError).suppressed : thrown;

export const writeLine = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

const exitCodeOf = (error: ConnectError): number => {
  if (error.code === 'CONFIG_INVALID' || error.code === 'DELIVERY_REFUSED' || error.code === 'NOT_FOUND')
    return exitCodes.invalid;
  return error.code === 'STATE_CONFLICT' ? exitCodes.environment : exitCodes.failed;
};

/** Columns of text, each as wide as its widest cell; numbers (cells that look like them) to the right. */
export const tableLines = (header: readonly string[], rows: readonly (readonly string[])[]): readonly string[] => {
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  const right = header.map(
    (_, column) => rows.length > 0 && rows.every((row) => /^[\d.,]*( \S+)?$/.test(row[column]!)),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => (right[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
      .join('  ')
      .trimEnd();
  return [line(header), ...rows.map(line)];
};

export const count = (n: number): string => n.toLocaleString('en-US');

export const bytes = (n: number): string => {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let value = n;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
};

export const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

/** In the unit in which it is a small number. */
export const duration = (ms: number): string => {
  const units = [
    ['h', 3_600_000],
    ['min', 60_000],
    ['s', 1_000],
  ] as const;
  const [unit, length] = units.find(([, one]) => ms >= 1.5 * one) ?? units[2];
  return `${Math.max(1, Math.round(ms / length))} ${unit}`;
};
