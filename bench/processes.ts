import { readFileSync } from 'node:fs';

/** Ticks of /proc are hundredths of a second on every Linux that Node runs on. */
const ticksPerSecond = 100;

/** CPU seconds of the processes that this one has started and that have ended, with what they started themselves. */
export const endedProcessesCpu = (): number => {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  // The second field, the command, is in parentheses and may hold blanks; cutime and cstime are the 16th and the 17th.
  const [user, system] = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .slice(13, 15);
  return (Number(user) + Number(system)) / ticksPerSecond;
};
