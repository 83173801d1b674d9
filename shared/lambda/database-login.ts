import { rootCertificates } from 'node:tls';
import { defaultProvider } from '@aws-sdk/credential-provider-node';
import { Sha256 } from '@smithy/core/checksum';
import { SignatureV4 } from '@smithy/signature-v4';
import { type DatabaseConnectionConfig, type DatabaseServer, sslModes } from '../connect/database-config.ts';
import { ConnectError } from '../connect/errors.ts';

export interface Login {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly password?: string | undefined;
  readonly ssl: (typeof sslModes)[number];
}

/** `<name>.<id>.<region>.rds.amazonaws.com`, also of clusters, proxies and China. */
const rdsHost = /\.([a-z]{2,4}(?:-[a-z]+)+-\d)\.rds\.amazonaws\.com(?:\.cn)?$/;

/** Where to connect and as whom, by the config's keys or its URL. With `auth: iam` the password is a token, good for 15 minutes. */
export const loginOf = async (
  config: DatabaseConnectionConfig,
  server: DatabaseServer,
  now: Date = new Date(),
): Promise<Login> => {
  if (config.url !== undefined) return loginOfUrl(config.url, config, server);
  const { port, password, auth } = config;
  const [host, database, user] = [config.host!, config.database!, config.user!];
  const login = { host, port, database, user, ssl: config.ssl ?? defaultSsl(host, auth) };
  return { ...login, password: auth === 'iam' ? await iamToken(login, now) : password };
};

/** RDS has certificates of its own, so nothing speaks for less. Elsewhere it is libpq's default. */
const defaultSsl = (host: string, auth: DatabaseConnectionConfig['auth']): Login['ssl'] =>
  auth === 'iam' || rdsHost.test(host) ? 'verify-full' : 'prefer';

/** Other spellings of a scheme. */
const aliases: { readonly [scheme: string]: string } = { postgres: 'postgresql', mysql: 'mariadb' };
const schemes = (scheme: string) => [scheme, aliases[scheme]].map((name) => `${name}:`);

const badEscape = /%(?![0-9a-f]{2})/i;

const loginOfUrl = (text: string, config: DatabaseConnectionConfig, { scheme, port }: DatabaseServer): Login => {
  // The parser's own error holds the text it was given, and so the password.
  const url = URL.canParse(text) && !badEscape.test(text) ? new URL(text) : undefined;
  if (url === undefined || !schemes(scheme).includes(url.protocol) || url.hostname === '')
    throw new ConnectError(
      'CONFIG_INVALID',
      `url is not of the form ${scheme}://user:password@host:port/database, with %25 for a %`,
    );
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  const { sslmode, ...others } = Object.fromEntries(url.searchParams);
  const unknown = Object.keys(others);
  const wanted = sslmode ?? config.ssl ?? defaultSsl(host, config.auth);
  const ssl = sslModes.find((mode) => mode === wanted);
  if (unknown.length > 0 || ssl === undefined)
    throw new ConnectError(
      'CONFIG_INVALID',
      ssl === undefined
        ? `sslmode=${sslmode} in url: use one of ${sslModes.join(', ')}`
        : `url has the unknown parameter ${unknown.join(', ')}: only sslmode is read`,
    );
  const user = decodeURIComponent(url.username);
  return {
    host,
    port: url.port === '' ? port : Number(url.port),
    database: decodeURIComponent(url.pathname.slice(1)) || user,
    user,
    password: url.password === '' ? undefined : decodeURIComponent(url.password),
    ssl,
  };
};

/** `rds`: the certificates of Amazon RDS. */
export const tlsOf = ({ ssl, host }: Pick<Login, 'ssl' | 'host'>, ca: string | undefined, rds: readonly string[]) => ({
  rejectUnauthorized: ssl === 'verify-ca' || ssl === 'verify-full',
  ...trusted(host, ca, rds),
  ...(ssl === 'verify-full' ? {} : { checkServerIdentity: () => undefined }),
});

const trusted = (host: string, ca: string | undefined, rds: readonly string[]): { ca?: string | string[] } => {
  if (ca !== undefined && ca !== 'rds') return { ca };
  return ca === 'rds' || rdsHost.test(host) ? { ca: [...rds, ...rootCertificates] } : {};
};

/**
 * A presigned request to `rds-db` that RDS takes for a password (Amazon RDS User Guide, "Connecting using IAM authentication"). It
 * is signed here without a call; the server asks IAM for `rds-db:connect`.
 */
const iamToken = async ({ host, port, user }: Pick<Login, 'host' | 'port' | 'user'>, now: Date): Promise<string> => {
  const region = rdsHost.exec(host)?.[1] ?? process.env.AWS_REGION;
  if (region === undefined)
    throw new ConnectError(
      'CONFIG_INVALID',
      `auth iam: ${host} names no region; set the environment variable AWS_REGION`,
    );
  const signer = new SignatureV4({ service: 'rds-db', region, credentials: defaultProvider(), sha256: Sha256 });
  const { query = {} } = await signer.presign(
    {
      method: 'GET',
      protocol: 'https:',
      hostname: host,
      port,
      path: '/',
      query: { Action: 'connect', DBUser: user },
      headers: { host: `${host}:${port}` },
    },
    { expiresIn: 900, signingDate: now },
  );
  const parameters = Object.entries(query)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`);
  return `${host}:${port}/?${parameters.join('&')}`;
};
