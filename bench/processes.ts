import { readdirSync, readFileSync } from 'node:fs';

/** Ticks of /proc are hundredths of a second on every Linux that Node runs on. */
const ticksPerSecond = 100;

/** The fields of /proc/PID/stat behind the second one, which is in parentheses and may hold blanks. */
const statOf = (pid: string): readonly string[] => {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
};

const secondsOf = (fields: readonly string[], first: number): number =>
  (Number(fields[first]) + Number(fields[first + 1])) / ticksPerSecond;

/** CPU seconds of the processes that this one has started and that have ended, with what they started themselves. */
export const endedProcessesCpu = (): number => secondsOf(statOf('self'), 13);

/** CPU seconds by now of the processes of these functions that are alive. */
export const functionsCpu = (isOne: (functionName: string) => boolean): number =>
  readdirSync('/proc')
    .filter((name) => /^[0-9]+$/.test(name))
    .reduce((sum, pid) => {
      try {
        const environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
        const functionName = /(?:^|\0)AWS_LAMBDA_FUNCTION_NAME=([^\0]*)/.exec(environment)?.[1];
        return functionName !== undefined && isOne(functionName) ? sum + secondsOf(statOf(pid), 11) : sum;
      } catch {
        // It has ended meanwhile, or is not ours.
        return sum;
      }
    }, 0);
