import { mulberry32 } from './mulberry32.ts';

/** What goes wrong with a call to DynamoDB or S3: refused, failed without effect, carried out and called failed, its answer lost. */
export type CallFault = 'throttled' | 'failed' | 'failedAfter' | 'answerLost';

/** What happens to a process in the middle of an invocation. */
export interface Trouble {
  /** After the invocation began. */
  afterMs: number;
  /** Stopped for so long, then it goes on; undefined: killed. */
  pauseMs: number | undefined;
}

export interface ChaosOptions {
  seed: number;
  /** How often each thing goes wrong, of one time: @default moderate */
  chances?: Partial<typeof CHANCES>;
}

/** Decides what goes wrong, by a seed, and counts it. What it decides comes true at moments that no seed determines. */
export interface Chaos {
  /** From here on. What only a deployment does is left alone. */
  begin(): void;
  faultOf(functionName: string): CallFault | undefined;
  troubleOf(timeoutMs: number): Trouble | undefined;
  /** When an event or a batch of a stream is delivered, once or more than once: milliseconds from now. */
  deliveries(): readonly number[];
  /** Those of a list that are taken now, in another order. */
  some<T>(list: readonly T[]): T[];
  /** Said by who carried it out. */
  count(what: string): void;
  summary(): string;
}

const CHANCES = { fault: 0.03, burst: 0.002, kill: 0.15, pause: 0.05, duplicate: 0.2, late: 0.2 };

const BURST_MS = { shortest: 500, longest: 4_000 };
const LATE_MS = { shortest: 10, longest: 20_000 };
const TROUBLE_AFTER_MS = { shortest: 1, longest: 5_000 };
const PAUSE_MS = { shortest: 50, longest: 5_000 };
/** Others believe such a process dead by then, and have taken over what it did. */
const PAST_TIMEOUT_MS = { shortest: 15_500, longest: 20_000 };
/** A process of a function with a longer timeout is not made to outsleep it: nobody would wait. */
const LONGEST_OUTSLEPT_TIMEOUT_MS = 15_000;

export function createChaos({ seed, chances: given = {} }: ChaosOptions): Chaos {
  const chances = { ...CHANCES, ...given };
  const counts = new Map<string, number>();
  const bursts = new Map<string, number>();
  let began = false;

  // A sequence for each kind of decision: how often one is asked for does not change the others.
  const calls = seeded(`${seed} calls`);
  const processes = seeded(`${seed} processes`);
  const deliveries = seeded(`${seed} deliveries`);
  const expiry = seeded(`${seed} expiry`);

  function count(what: string): void {
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }

  return {
    begin: () => {
      began = true;
    },
    faultOf(functionName) {
      if (!began) return undefined;
      if (calls.chance(chances.burst)) bursts.set(functionName, Date.now() + calls.between(BURST_MS));
      const inBurst = (bursts.get(functionName) ?? 0) > Date.now();
      if (!inBurst && !calls.chance(chances.fault)) return undefined;
      const fault = calls.pick(['throttled', 'throttled', 'failed', 'failedAfter', 'answerLost'] as const);
      count(CALLS[fault]);
      return fault;
    },
    troubleOf(timeoutMs) {
      if (!began) return undefined;
      const afterMs = processes.between(TROUBLE_AFTER_MS);
      if (processes.chance(chances.kill)) return { afterMs, pauseMs: undefined };
      if (!processes.chance(chances.pause)) return undefined;
      const outsleeps = timeoutMs <= LONGEST_OUTSLEPT_TIMEOUT_MS && processes.chance(0.5);
      const pauseMs = outsleeps ? timeoutMs + processes.between(PAST_TIMEOUT_MS) : processes.between(PAUSE_MS);
      return { afterMs, pauseMs };
    },
    deliveries() {
      if (!began) return [0];
      const firstMs = deliveries.chance(chances.late) ? deliveries.between(LATE_MS) : 0;
      if (firstMs > 0) count('deliveries late');
      if (!deliveries.chance(chances.duplicate)) return [firstMs];
      count('deliveries doubled');
      return [firstMs, deliveries.between(LATE_MS)];
    },
    some: (list) => expiry.shuffled(list.filter(() => expiry.chance(0.3))),
    count,
    summary() {
      const done = [...counts].sort().map(([what, times]) => `${times} ${what}`);
      return `chaos with seed ${seed}: ${done.join(', ') || 'nothing went wrong'}`;
    },
  };
}

const CALLS: Record<CallFault, string> = {
  throttled: 'calls throttled',
  failed: 'calls failed',
  failedAfter: 'calls called failed',
  answerLost: 'answers lost',
};

function seeded(text: string) {
  // FNV-1a
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  const next = mulberry32(hash);
  return {
    chance: (probability: number): boolean => next() < probability,
    pick: <T>(from: readonly T[]): T => from[Math.floor(next() * from.length)]!,
    /** As often between 1 and 10 as between 1,000 and 10,000. */
    between: ({ shortest, longest }: { shortest: number; longest: number }): number =>
      Math.round(shortest * (longest / shortest) ** next()),
    shuffled<T>(list: readonly T[]): T[] {
      const keyed = list.map((one) => [next(), one] as const);
      return keyed.sort(([a], [b]) => a - b).map(([, one]) => one);
    },
  };
}
