import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { startDynamodb } from '../../../infra/local/dynamodb.ts';
import { temporaryDirectory } from './app.ts';

/** A process that looks like one left over by a killed run, where its arguments name the file. */
async function leftOver(argument: string) {
  const child = spawn(process.execPath, ['-e', `console.log('up'); setInterval(() => {}, 1000)`, argument], {
    stdio: 'pipe',
  });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  await once(child.stdout, 'data');
  return child;
}

test('what a killed run left over on the same file is ended first', async () => {
  const stateDir = await temporaryDirectory();
  const orphan = await leftOver(join(stateDir, 'dynamodb.db'));
  await writeFile(join(stateDir, 'dynamodb.json'), JSON.stringify({ pid: orphan.pid }));
  const exit = once(orphan, 'exit');
  const dynamodb = await startDynamodb({ stateDir, onLog: () => {} });
  await dynamodb.stop();
  expect((await exit)[1]).toBe('SIGKILL');
});

test('another program that has the recorded pid by now is left alone', async () => {
  const stateDir = await temporaryDirectory();
  const other = await leftOver('/somewhere/else');
  await writeFile(join(stateDir, 'dynamodb.json'), JSON.stringify({ pid: other.pid }));
  const dynamodb = await startDynamodb({ stateDir, onLog: () => {} });
  await dynamodb.stop();
  expect(other.exitCode ?? other.signalCode).toBeNull();
});

test('a file that is no database is told with what the program said', async () => {
  const stateDir = await temporaryDirectory();
  await writeFile(
    join(stateDir, 'dynamodb.db'),
    'not a database, but long enough to be read as the header of one'.repeat(10),
  );
  await expect(startDynamodb({ stateDir, onLog: () => {} })).rejects.toThrow(
    /dynoxide did not start \(exit code \d+\): .*not a valid SQLite database/s,
  );
});
