import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import * as z from 'zod';
import { defineSink } from '../../../shared/connect/connector.ts';
import { toSystem } from '../../../shared/lambda/ends.ts';
import type { Environment } from '../../../shared/lambda/environment.ts';
import { forgetSecrets, resolveSecrets } from '../../../shared/lambda/secrets.ts';
import type { ConnectorRow } from '../../../shared/state/connectors.ts';

afterEach(() => {
  vi.unstubAllEnvs();
  forgetSecrets();
});

describe('secret references', () => {
  it('are resolved wherever they stand, and leave the stored config as it is', async () => {
    vi.stubEnv('SHOP_PASSWORD', 'p4ss$word');
    const config = {
      url: 'postgres://app:${env:SHOP_PASSWORD}@db/shop',
      nested: [{ password: '${env:SHOP_PASSWORD}' }],
      n: 1,
    };
    const before = structuredClone(config);
    expect(await resolveSecrets(config)).toEqual({
      url: 'postgres://app:p4ss$word@db/shop',
      nested: [{ password: 'p4ss$word' }],
      n: 1,
    });
    expect(config).toEqual(before);
  });

  it('that can’t be read are all named at once', async () => {
    await expect(resolveSecrets({ a: '${env:NOPE_1}', b: ['${env:NOPE_2}', '${file:/nope}'] })).rejects.toMatchObject({
      code: 'SECRET_UNAVAILABLE',
      message: expect.stringMatching(/\$\{env:NOPE_1\}.*\$\{env:NOPE_2\}.*\$\{file:\/nope\}/),
    });
  });

  it.each([
    ['1', 'set it where sluice is started'],
    ['', "give it one by addEnvironment('NOPE', …), or use ${secretsmanager:…} or ${ssm:…}"],
  ])('to a variable that is not set say what to do about it, with SLUICE_LOCAL=%s', async (local, fix) => {
    vi.stubEnv('SLUICE_LOCAL', local);
    await expect(resolveSecrets('${env:NOPE}')).rejects.toThrow(fix);
  });

  it('to files are read on the local host only', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'sluice-secrets-'));
    const file = join(directory, 'password');
    await writeFile(file, 'from a file\n');
    await expect(resolveSecrets(`\${file:${file}}`)).rejects.toMatchObject({ code: 'SECRET_UNAVAILABLE' });
    vi.stubEnv('SLUICE_LOCAL', '1');
    expect(await resolveSecrets(`\${file:${file}}`)).toBe('from a file');
    await rm(directory, { recursive: true });
  });

  it('never show their value in the error of a config that does not fit', async () => {
    vi.stubEnv('SHOP_PASSWORD', 'p4ssword');
    const sink = defineSink({
      type: 'picky',
      delivery: 'at-least-once',
      config: z.strictObject({ password: z.string().max(3), port: z.number() }),
      open: async () => ({ put: async () => ({ committed: false }), close: async () => {} }),
    });
    const row = {
      name: 'shop',
      config: { password: '${env:SHOP_PASSWORD}', port: 'x', typo: 1 },
    } as unknown as ConnectorRow;
    const context = {
      connector: 'shop',
      incarnation: 'i',
      deployment: 'd',
      taskId: 0,
      tasks: 1,
      signal: new AbortController().signal,
    };
    const opening = toSystem(sink as never).open(row, context, {} as Environment);
    await expect(opening).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.stringMatching(/config\.password: .*config\.port: .*typo/),
    });
    await expect(opening).rejects.not.toThrow(/p4ssword/);
  });
});
