import { readFileSync } from 'node:fs';

/** Names one process for ever: a pid alone is reused, after a reboot even soon. */
export interface ProcessIdentity {
  pid: number;
  bootId: string;
  startTime: string;
}

export function processIdentity(pid: number): ProcessIdentity | undefined {
  const startTime = startTimeOf(pid);
  return startTime === undefined ? undefined : { pid, bootId: bootId(), startTime };
}

export function isAlive(identity: ProcessIdentity): boolean {
  return identity.bootId === bootId() && identity.startTime === startTimeOf(identity.pid);
}

export function commandLineOf(pid: number): string[] {
  return readProc(`/proc/${pid}/cmdline`)?.split('\0') ?? [];
}

/** Resident memory now, or undefined where there is no /proc or no such process. */
export function residentMb(pid: number): number | undefined {
  const pages = readProc(`/proc/${pid}/statm`)?.split(' ')[1];
  return pages === undefined ? undefined : (Number(pages) * 4096) / 1_048_576;
}

function bootId(): string {
  return readProc('/proc/sys/kernel/random/boot_id')?.trim() ?? 'unknown';
}

/** Without /proc (macOS) a process is known by its pid alone. */
function startTimeOf(pid: number): string | undefined {
  const stat = readProc(`/proc/${pid}/stat`);
  if (stat !== undefined) {
    // The command name may hold spaces and brackets, so fields are counted after its last bracket.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  }
  if (process.platform === 'linux') return undefined;
  try {
    process.kill(pid, 0);
    return 'unknown';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM' ? 'unknown' : undefined;
  }
}

function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw error;
  }
}
