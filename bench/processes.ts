import { readdirSync, readFileSync } from 'node:fs';

/** What one process of a command used, as last seen. */
interface Used {
  readonly name: string;
  readonly cpuSeconds: number;
}

/** Ticks of /proc are hundredths of a second on every Linux that Node runs on. */
const ticksPerSecond = 100;
const lookMs = 50;

/**
 * CPU seconds of a command's processes by what they are: every function by its name, the embedded DynamoDB, the command itself. Read from
 * /proc while it runs, so the last look of a process misses at most 50 ms of it.
 */
export const watchProcesses = (root: number) => {
  const seen = new Map<number, Used>();
  const names = new Map<number, string>();
  const look = () => {
    const queue = [root];
    for (let pid = queue.pop(); pid !== undefined; pid = queue.pop()) {
      queue.push(...childrenOf(pid));
      const stat = read(`/proc/${pid}/stat`);
      if (stat === undefined) continue;
      // The second field, the command, is in parentheses and may hold blanks.
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      const ticks = Number(fields[11]) + Number(fields[12]);
      // A process that has just been made is still its parent.
      const name = names.get(pid) ?? nameOf(pid);
      if (name !== undefined && ticks > 0) names.set(pid, name);
      seen.set(pid, { name: name ?? '?', cpuSeconds: ticks / ticksPerSecond });
    }
  };
  const timer = setInterval(look, lookMs);
  return {
    /** Seconds per kind of process. */
    stop(): ReadonlyMap<string, number> {
      clearInterval(timer);
      const sums = new Map<string, number>();
      for (const { name, cpuSeconds } of seen.values()) sums.set(name, (sums.get(name) ?? 0) + cpuSeconds);
      return sums;
    },
  };
};

const childrenOf = (pid: number): readonly number[] =>
  threadsOf(pid).flatMap((thread) => (read(`/proc/${pid}/task/${thread}/children`)?.match(/\d+/g) ?? []).map(Number));

const threadsOf = (pid: number): readonly string[] => {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
};

const read = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
};

const nameOf = (pid: number): string | undefined => {
  const environment = read(`/proc/${pid}/environ`);
  const functionName = /(?:^|\0)AWS_LAMBDA_FUNCTION_NAME=([^\0]*)/.exec(environment ?? '')?.[1];
  if (functionName !== undefined) return functionName;
  // One that has just ended has neither any more.
  const command = read(`/proc/${pid}/cmdline`)?.split('\0')[0];
  return command === '' ? undefined : command?.split('/').at(-1);
};
