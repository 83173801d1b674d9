import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import * as z from 'zod';
import { defineSink, defineSource } from '../../../shared/connect/connector.ts';
import { ConnectError } from '../../../shared/connect/errors.ts';
import { fromSystem, toSystem } from '../../../shared/lambda/ends.ts';
import type { Environment } from '../../../shared/lambda/environment.ts';
import { forgetSecrets, resolveSecrets } from '../../../shared/lambda/secrets.ts';
import type { ConnectorRow } from '../../../shared/state/connectors.ts';
import { signatureOf } from '../../kit/signature.ts';

const secretAccessKey = 'wJalrXUtnFEMI';
const arn = 'arn:aws:secretsmanager:us-east-1:000000000000:secret:shop-AbCdEf';

interface Asked {
  readonly target: string;
  readonly body: Record<string, unknown>;
}

/** Secrets Manager and Parameter Store, as far as a function asks them. */
let secrets: Map<string, string>;
let asked: Asked[] = [];
let failures: { readonly status: number; readonly body: string }[] = [];
let refusedSignatures = 0;
const server = createServer((request, response) => {
  let text = '';
  request.on('data', (chunk) => {
    text += chunk;
  });
  request.on('end', () => {
    const { status, body } = answer(request.headers, text);
    response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1' }).end(body);
  });
});

const answer = (headers: IncomingHttpHeaders, text: string): { status: number; body: string } => {
  const given = /Signature=([0-9a-f]+)/.exec(String(headers.authorization))?.[1];
  if (given !== signatureOf(headers, text, secretAccessKey)) {
    refusedSignatures++;
    return { status: 403, body: JSON.stringify({ __type: 'InvalidSignatureException', message: 'no' }) };
  }
  const target = String(headers['x-amz-target']);
  const body = JSON.parse(text) as Record<string, unknown>;
  asked.push({ target, body });
  const failure = failures.shift();
  if (failure !== undefined) return failure;
  const value = secrets.get(String(body.SecretId ?? body.Name));
  if (value === undefined)
    return {
      status: 400,
      body: JSON.stringify({ __type: 'com.amazonaws#ResourceNotFoundException', Message: 'none' }),
    };
  const found = 'SecretId' in body ? { SecretString: value } : { Parameter: { Value: value } };
  return { status: 200, body: JSON.stringify(found) };
};

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterAll(() => server.close());

beforeEach(() => {
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  vi.stubEnv('AWS_ENDPOINT_URL_SECRETS_MANAGER', endpoint);
  vi.stubEnv('AWS_ENDPOINT_URL_SSM', endpoint);
  vi.stubEnv('AWS_REGION', 'us-east-1');
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIDEXAMPLE');
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', secretAccessKey);
  vi.stubEnv('AWS_SESSION_TOKEN', 'a session');
  secrets = new Map([
    ['shop/db', '{"user":"app","password":"p4ss:}word","port":5432}'],
    [arn, 'the whole of it'],
    ['/shop/token', 'from ssm'],
  ]);
  asked = [];
  failures = [];
  refusedSignatures = 0;
});
afterEach(() => {
  vi.unstubAllEnvs();
  forgetSecrets();
});

const context = {
  connector: 'shop',
  incarnation: 'i',
  deployment: 'd',
  taskId: 0,
  tasks: 1,
  signal: new AbortController().signal,
};

describe('a secret', () => {
  it('is fetched by its name or ARN, whole or by a key of its JSON', async () => {
    const config = {
      url: 'postgres://${secretsmanager:shop/db:user}:${secretsmanager:shop/db:password}@db:${secretsmanager:shop/db:port}',
      whole: `\${secretsmanager:${arn}}`,
      token: 'Bearer ${ssm:/shop/token}',
    };
    expect(await resolveSecrets(config)).toEqual({
      url: 'postgres://app:p4ss:}word@db:5432',
      whole: 'the whole of it',
      token: 'Bearer from ssm',
    });
    expect(refusedSignatures).toBe(0);
    expect(asked).toContainEqual({
      target: 'AmazonSSM.GetParameter',
      body: { Name: '/shop/token', WithDecryption: true },
    });
    // Once, for all its keys.
    expect(asked.filter(({ body }) => body.SecretId === 'shop/db')).toEqual([
      { target: 'secretsmanager.GetSecretValue', body: { SecretId: 'shop/db' } },
    ]);
  });

  it('stays known as long as the instance is warm', async () => {
    await resolveSecrets('${ssm:/shop/token}');
    secrets.set('/shop/token', 'rotated');
    expect(await resolveSecrets('${ssm:/shop/token}')).toBe('from ssm');
    expect(asked).toHaveLength(1);
    expect(forgetSecrets()).toBe(true);
    expect(await resolveSecrets('${ssm:/shop/token}')).toBe('rotated');
  });

  it('that can’t be read is named with the reason, all at once, and never shown', async () => {
    secrets.set('text', 'no-json-s3cret');
    const config = ['${secretsmanager:none}', '${secretsmanager:shop/db:pasword}', '${secretsmanager:text:key}'];
    const error = await resolveSecrets(config).catch((thrown) => thrown);
    expect(error).toMatchObject({
      code: 'SECRET_UNAVAILABLE',
      retriable: false,
      message:
        'these secrets could not be read: ${secretsmanager:none}: there is no such secret in this account and region; ' +
        '${secretsmanager:shop/db:pasword}: the secret has no key pasword; ' +
        '${secretsmanager:text:key}: the secret is no JSON, and so it has no key key',
    });
    for (let at = error; at instanceof Error; at = at.cause as Error)
      expect(`${at.message}${JSON.stringify(at)}`).not.toMatch(/s3cret|p4ss/);
  });

  it('that its role may not read says so in IAM’s words', async () => {
    const message = 'User: arn:aws:sts::0:assumed-role/r is not authorized to perform: secretsmanager:GetSecretValue';
    failures = [{ status: 400, body: JSON.stringify({ __type: 'AccessDeniedException', Message: message }) }];
    await expect(resolveSecrets('${secretsmanager:shop/db}')).rejects.toThrow(
      "the function's role may not read it (User: arn:aws:sts::0:assumed-role/r is not authorized to perform: secretsmanager:GetSecretValue)",
    );
  });

  it('is asked for again while the service is busy, and later where it stays so', async () => {
    const busy = { status: 503, body: 'not even JSON' };
    failures = [busy, { status: 400, body: JSON.stringify({ __type: 'ThrottlingException' }) }];
    expect(await resolveSecrets('${ssm:/shop/token}')).toBe('from ssm');
    expect(asked).toHaveLength(3);
    forgetSecrets();
    failures = [busy, busy, busy];
    await expect(resolveSecrets('${ssm:/shop/token}')).rejects.toMatchObject({
      code: 'SECRET_UNAVAILABLE',
      retriable: true,
    });
    // What failed is not remembered.
    expect(await resolveSecrets('${ssm:/shop/token}')).toBe('from ssm');
  });

  it('is not looked for on the local host, which says what to use', async () => {
    vi.stubEnv('SLUICE_LOCAL', '1');
    await expect(resolveSecrets('${secretsmanager:shop/db}')).rejects.toThrow(
      'the local host has no Secrets Manager; here use ${env:NAME} or ${file:/path}',
    );
    expect(asked).toEqual([]);
  });
});

describe('a login that is refused (hazard B13)', () => {
  const refused = () => new ConnectError('AUTHENTICATION_FAILED', 'no', { retriable: true });
  const tokens: unknown[] = [];
  const config = z.strictObject({ token: z.string() });
  const open = async (given: { config: { token: string } }) => {
    tokens.push(given.config.token);
    if (given.config.token !== 'rotated') throw refused();
    return { put: async () => ({ committed: false }), close: async () => {} };
  };
  const sink = toSystem(defineSink({ type: 's', delivery: 'at-least-once', config, open }) as never);
  const source = fromSystem(
    defineSource({
      type: 's',
      replay: 'exact',
      offset: z.unknown(),
      topics: () => [],
      config,
      open: open as never,
    }) as never,
  );
  const row = (token: string) => ({ name: 'shop', config: { token }, tasks: 1 }) as unknown as ConnectorRow;

  beforeEach(() => {
    tokens.length = 0;
  });

  it.each([
    ['sink', sink],
    ['source', source],
  ])('of a %s is tried once more with the secret as it is now', async (_, end) => {
    await resolveSecrets('${ssm:/shop/token}');
    secrets.set('/shop/token', 'rotated');
    await end.open(row('${ssm:/shop/token}'), context, {} as Environment);
    expect(tokens).toEqual(['from ssm', 'rotated']);
  });

  it('is told where the secret is no other', async () => {
    const opening = sink.open(row('${ssm:/shop/token}'), context, {} as Environment);
    await expect(opening).rejects.toMatchObject({ code: 'AUTHENTICATION_FAILED' });
    expect(tokens).toEqual(['from ssm', 'from ssm']);
  });

  it('is not tried again without a secret that could have changed', async () => {
    const opening = sink.open(row('fixed'), context, {} as Environment);
    await expect(opening).rejects.toMatchObject({ code: 'AUTHENTICATION_FAILED' });
    expect(tokens).toEqual(['fixed']);
  });

  it('does not wait for a check: it reads what the secret is now', async () => {
    await resolveSecrets('${ssm:/shop/token}');
    secrets.set('/shop/token', 'rotated');
    const seen: unknown[] = [];
    const checked = toSystem(
      defineSink({
        type: 's',
        delivery: 'at-least-once',
        config,
        open,
        check: async (given) => {
          seen.push(given.config.token);
          return [];
        },
      }) as never,
    );
    await checked.lifecycle!.check!(row('${ssm:/shop/token}'), context);
    expect(seen).toEqual(['rotated']);
  });
});
