/**
 * Who is to blame, and so what happens next (invariant 8):
 * - `row`: this record can never be written. It alone goes to the dead letters, by `errors.tolerance`.
 * - `order`: a unique or foreign key is violated while changes are applied. Retried in source order, then the task fails.
 * - `system`: everything else (network, authentication, disk, a bug). Retried with backoff, then the task fails; never a dead letter.
 */
export type Blame = 'row' | 'order' | 'system';

export const errorCodes = {
  ACCESS_DENIED: 'The role of the function lacks a permission; the message names the action and the resource.',
  AUTHENTICATION_FAILED: 'A system refused the login; secrets are read again once, because they may have been rotated.',
  CHECK_FAILED: 'A connector’s own check found problems with its system; the connector was left as it was.',
  CONFIG_INVALID: 'A configuration does not fit its schema; the message lists every problem with its path.',
  CORRUPT: 'Stored bytes do not match their checksum or length, or are missing before they expired.',
  DELIVERY_REFUSED: 'The pair of source and sink cannot give the delivery that was asked for.',
  FENCED:
    'Another run, or an operator, moved the offset since this batch was read; nothing of the batch was committed.',
  LOST_POSITION: 'The committed offset is not available upstream any more, or belongs to another source.',
  NEEDS_OPERATOR: 'Connectors wait for an operator; the message names them.',
  NOT_FOUND: 'A named connector, topic, file or object does not exist.',
  POISON: 'A single record killed its function again and again; it was not skipped.',
  RECORD_REJECTED: 'A record does not fit its declared schema, or the destination refused it.',
  SECRET_UNAVAILABLE: 'A secret reference could not be resolved.',
  SHAPE_TOO_NEW: 'Stored data was written by a newer release than the one that reads it.',
  STATE_CONFLICT: 'The connector is in a state that does not allow this operation.',
  STOPPED: 'The run was stopped: its budget ended or its signal was aborted.',
  TRANSFORM_FAILED: 'A transform threw on a record.',
  TOO_LARGE: 'A record or a commit is larger than the store can hold.',
  UNAVAILABLE: 'A system did not answer, or answered that it cannot serve now.',
  UNEXPECTED: 'An error that nothing classified; treated as a system error.',
} as const;

export type ErrorCode = keyof typeof errorCodes;

export interface ConnectErrorOptions {
  readonly blame?: Blame;
  readonly retriable?: boolean;
  readonly cause?: unknown;
}

/** The one error of the platform. The message says what happened, the value got, and what to change; it never holds a secret. */
export class ConnectError extends Error {
  readonly code: ErrorCode;
  readonly blame: Blame;
  /** Whether trying the same call again may succeed. */
  readonly retriable: boolean;

  constructor(code: ErrorCode, message: string, options: ConnectErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.name = 'ConnectError';
    this.code = code;
    this.blame = options.blame ?? 'system';
    this.retriable = options.retriable ?? false;
  }
}

/** A row error: this record alone is to blame. */
export const rowError = (message: string, cause?: unknown): ConnectError =>
  new ConnectError('RECORD_REJECTED', message, { blame: 'row', cause });

/** Whatever was thrown, as a ConnectError: what nobody classified is a system error. */
export const toConnectError = (thrown: unknown): ConnectError =>
  thrown instanceof ConnectError
    ? thrown
    : new ConnectError('UNEXPECTED', thrown instanceof Error ? thrown.message : String(thrown), { cause: thrown });

export const isCode = (thrown: unknown, code: ErrorCode): thrown is ConnectError =>
  thrown instanceof ConnectError && thrown.code === code;
