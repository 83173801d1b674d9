import { existsSync } from 'node:fs';
import { chmod, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { alone, apt } from '../../infra/local/install-mysql.ts';

/** A clock of processes that is set while they run. */
export interface WrongClock extends AsyncDisposable {
  /** Makes it theirs, by libfaketime. What they measure durations by goes on. */
  readonly env: Readonly<Record<string, string>>;
  /** So many seconds before or behind the time. */
  set(seconds: number): Promise<void>;
}

export const startWrongClock = async (): Promise<WrongClock> => {
  const library = `/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu/faketime/libfaketime.so.1`;
  if (!existsSync(library)) await alone(`${apt}\n[ -e "$1" ] || install libfaketime`, library);
  const directory = await mkdtemp(join(tmpdir(), 'sluice-clock-'));
  // A server that runs as nobody reads it too.
  await chmod(directory, 0o755);
  const file = join(directory, 'clock');
  const set = async (seconds: number) => {
    await writeFile(`${file}.new`, `${seconds < 0 ? '' : '+'}${seconds}s\n`);
    await rename(`${file}.new`, file);
  };
  await set(0);
  return {
    env: {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    },
    set,
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
};
