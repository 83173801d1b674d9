import type { InvocationReport } from '../local/functions.ts';
import type { ObjectRequest } from '../local/s3.ts';
import { count } from './output.ts';
import { addUsage, dollarsOf, type Usage } from './prices.ts';

interface Moved {
  readonly records: number;
  readonly bytes: number;
}

/** What a run did, from what its functions say and what the host measures: records live, and what AWS would have billed. */
export interface Meter {
  line(functionName: string, line: string): void;
  invocation(report: InvocationReport): void;
  object(request: ObjectRequest): void;
  moved(connector: string): Moved;
  figures(): Figures;
  summary(): string;
}

export interface Figures {
  readonly invocations: number;
  readonly gbSeconds: number;
  readonly readUnits: number;
  readonly writeUnits: number;
  readonly objectWrites: number;
  readonly objectReads: number;
  readonly dollars: number;
  /** The largest resident set that an instance of each function reached. */
  readonly maxRssMb: Readonly<Record<string, number>>;
}

export const createMeter = (onProblem: (functionName: string, line: string) => void = printProblem): Meter => {
  const moved = new Map<string, Moved>();
  const maxRssMb: Record<string, number> = {};
  let usage: Usage = {};
  const use = (more: Usage) => {
    usage = addUsage(usage, more);
  };
  const figures = (): Figures => {
    const { invocations = 0, gbSeconds = 0, readUnits = 0, writeUnits = 0, objectWrites = 0, objectReads = 0 } = usage;
    const counted = { invocations, gbSeconds, readUnits, writeUnits, objectWrites, objectReads };
    return { ...counted, dollars: dollarsOf(usage), maxRssMb };
  };
  return {
    line(functionName, text) {
      const message = parse(text);
      if (message === undefined) return onProblem(functionName, text);
      if (message.message === 'batch') {
        const { connector = '', records = 0, bytes = 0 } = message;
        const before = moved.get(connector) ?? { records: 0, bytes: 0 };
        moved.set(connector, { records: before.records + records, bytes: before.bytes + bytes });
      }
      if (message.message === 'units') {
        const { read = 0, write = 0 } = message;
        use({ readUnits: read, writeUnits: write });
      }
    },
    invocation({ functionName, billedMs, memoryMb, maxRssMb: rssMb }) {
      maxRssMb[functionName] = Math.max(maxRssMb[functionName] ?? 0, rssMb);
      use({ invocations: 1, gbSeconds: (billedMs / 1000) * (memoryMb / 1024) });
    },
    object: (request) => use(request === 'write' ? { objectWrites: 1 } : { objectReads: 1 }),
    moved: (connector) => moved.get(connector) ?? { records: 0, bytes: 0 },
    figures,
    summary() {
      const { invocations, gbSeconds, writeUnits, readUnits, objectWrites, objectReads, dollars } = figures();
      const units = `${count(Math.round(writeUnits))} write and ${count(Math.round(readUnits))} read units`;
      const objects = `${count(objectWrites)} object writes and ${count(objectReads)} reads`;
      return `${count(invocations)} invocations, ${gbSeconds.toFixed(1)} GB-s, ${units}, ${objects}; this run on AWS ≈ $${dollars.toFixed(5)}`;
    },
  };
};

interface Message {
  readonly message?: string;
  readonly connector?: string;
  readonly records?: number;
  readonly bytes?: number;
  readonly read?: number;
  readonly write?: number;
}

const parse = (text: string): Message | undefined => {
  if (!text.startsWith('{')) return undefined;
  try {
    return JSON.parse(text) as Message;
  } catch {
    return undefined;
  }
};

const printProblem = (functionName: string, line: string): void => {
  process.stderr.write(`${functionName}: ${line}\n`);
};
