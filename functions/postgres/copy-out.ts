/** The bytes of a COPY … TO STDOUT, in pages that hold whole rows. The server waits while nobody reads. */
export interface Pages {
  /** The next page, as much as there is; undefined behind the last one. Its memory is the caller's. */
  next(): Promise<Buffer | undefined>;
}

/** What is read of a socket; the rest of the driver is not needed here. */
interface Wire {
  query(text: string): void;
  readonly stream: { pause(): unknown; resume(): unknown };
}

/** A page's size, where no row is larger. */
const pageBytes = 1024 * 1024;
/** Pages read ahead of whoever takes them. */
const maxPages = 3;

/**
 * A query for the driver whose rows come in pages. The driver reads a row of a common query as a string, which breaks binary columns and
 * costs an object per value; what a COPY sends it hands over as it came, in memory that it uses again: hence the copy.
 */
export const copyOutQuery = (text: string, classify: (error: unknown) => Error) => {
  let wire: Wire | undefined;
  const full: Buffer[] = [];
  let page: Buffer | undefined;
  let used = 0;
  let paused = false;
  let ended = false;
  let failure: { readonly error: Error } | undefined;
  let wake: (() => void) | undefined;

  const settle = () => {
    ended = true;
    wake?.();
  };

  const take = (): Buffer | undefined => {
    const first = full.shift();
    if (first !== undefined || page === undefined) return first;
    const partial = page.subarray(0, used);
    page = undefined;
    return partial;
  };

  const add = (chunk: Uint8Array) => {
    if (page !== undefined && used + chunk.length > page.length) {
      full.push(page.subarray(0, used));
      page = undefined;
    }
    if (page === undefined) {
      // Memory of its own, so that it can be freed at once.
      page = Buffer.allocUnsafeSlow(Math.max(pageBytes, chunk.length));
      used = 0;
    }
    page.set(chunk, used);
    used += chunk.length;
    if (full.length < maxPages || paused) return;
    paused = true;
    wire!.stream.pause();
  };

  const query = {
    submit(connection: Wire) {
      wire = connection;
      connection.query(text);
    },
    handleCopyData({ chunk }: { readonly chunk: Uint8Array }) {
      add(chunk);
      wake?.();
    },
    handleCommandComplete() {},
    handleReadyForQuery: settle,
    handleError(error: unknown) {
      failure = { error: classify(error) };
      settle();
    },
  };

  const pages: Pages = {
    async next() {
      for (;;) {
        const taken = take();
        if (taken !== undefined) {
          if (paused && full.length === 0) {
            paused = false;
            wire!.stream.resume();
          }
          return taken;
        }
        if (failure !== undefined) throw failure.error;
        if (ended) return undefined;
        await new Promise<void>((resolve) => {
          // The rest of what the socket gave comes first.
          wake = () => setImmediate(resolve);
        });
        wake = undefined;
      }
    },
  };
  return { query, pages };
};
