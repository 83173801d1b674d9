import { execFile } from 'node:child_process';
import { mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';

it('an app that is wrong ends with what to change and where, and with no line of ours', async () => {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'sluice-wrong-')));
  onTestFinished(() => rm(directory, { recursive: true }));
  const trigger = pathToFileURL(join(import.meta.dirname, '../../infra/constructs/trigger.ts')).href;
  const program = join(directory, 'app.mts');
  await writeFile(program, `import { Trigger } from '${trigger}';\n\nTrigger.cron('1 2 3');\n`);
  const { stderr } = await promisify(execFile)(process.execPath, [program]).catch((thrown) => thrown);
  expect(stderr).toContain('ConnectError: trigger: cron "1 2 3" is not possible: expected 6 fields');
  const frames = (stderr as string).split('\n').filter((line) => line.startsWith('    at '));
  expect(frames).toEqual([expect.stringContaining(`${pathToFileURL(program).href}:3:9`)]);
});
