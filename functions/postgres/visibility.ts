/** The transactions that a view of the database sees, of pg_current_snapshot(): 64-bit ids, which never come again. */
export interface Visible {
  /** All before it have ended. */
  readonly xmin: bigint;
  /** None from it on had ended. */
  readonly xmax: bigint;
  /** Those in between that had not. */
  readonly running: ReadonlySet<bigint>;
}

/** Of `xmin:xmax:xip,xip…`. */
export const parseXids = (text: string): Visible => {
  const [xmin = '', xmax = '', running = ''] = text.split(':');
  return {
    xmin: BigInt(xmin),
    xmax: BigInt(xmax),
    running: new Set(running === '' ? [] : running.split(',').map(BigInt)),
  };
};

/**
 * The 64 bits of a transaction id of which 32 are told: the one nearest to `near`. The server lets no two transactions that matter be
 * further apart than 2^31: it stops before that.
 * https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-WRAPAROUND
 */
export const widened = (xid: number, near: bigint): bigint => near + BigInt.asIntN(32, BigInt(xid) - near);

/**
 * Whether a view sees what a committed transaction did. Both speak of top-level transactions: a snapshot lists no others, and `pgoutput`
 * names the one that a subtransaction is part of.
 * https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT
 */
export const isVisible = ({ xmin, xmax, running }: Visible, xid: number): boolean => {
  const whole = widened(xid, xmax);
  return whole < xmin || (whole < xmax && !running.has(whole));
};
