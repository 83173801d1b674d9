/** Counts what is under way, so that `idle` can be told from a pause between two steps. */
export interface Activity {
  track<T>(work: Promise<T>): Promise<T>;
  readonly underWay: number;
  /** Grows whenever something starts: the same number twice means nothing started in between. */
  readonly started: number;
  whenQuiet(): Promise<void>;
  /** Called after anything has started or ended: what it wrote may be waiting in a stream. */
  onChange(listener: () => void): void;
}

export function createActivity(): Activity {
  let underWay = 0;
  let started = 0;
  const waiting: (() => void)[] = [];
  const listeners: (() => void)[] = [];

  const ended = (): void => {
    underWay -= 1;
    for (const listener of listeners) listener();
    if (underWay > 0) return;
    for (const resolve of waiting.splice(0)) resolve();
  };
  return {
    track(work) {
      underWay += 1;
      started += 1;
      for (const listener of listeners) listener();
      return work.finally(ended);
    },
    get underWay() {
      return underWay;
    },
    get started() {
      return started;
    },
    whenQuiet() {
      if (underWay === 0) return Promise.resolve();
      return new Promise((resolve) => {
        waiting.push(resolve);
      });
    },
    onChange(listener) {
      listeners.push(listener);
    },
  };
}
