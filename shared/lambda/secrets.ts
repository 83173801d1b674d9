import { readFile } from 'node:fs/promises';
import { ConnectError, isCode } from '../connect/errors.ts';
import { AwsError, callAws } from './aws-json.ts';

/**
 * Secrets are references in every stored config (invariant 10); they become values here, inside the function that uses them, and
 * nowhere else: `${secretsmanager:<name or ARN>}` or with `:<key>` of its JSON, `${ssm:<name>}`, `${env:NAME}` and, on the local host,
 * `${file:/path}`.
 */
const reference = /\$\{(env|file|secretsmanager|ssm):([^}]+)\}/g;

type Provider = 'env' | 'file' | 'secretsmanager' | 'ssm';

/** What was fetched, by warm instance. A rotated secret shows as a login that is refused: `forgetSecrets` is called then. */
const fetched = new Map<string, Promise<string>>();

/** Lets the next config be resolved with what the secrets are by then. False: none has been fetched, so nothing can have changed. */
export const forgetSecrets = (): boolean => {
  const some = fetched.size > 0;
  fetched.clear();
  return some;
};

interface Unavailable {
  readonly text: string;
  readonly retriable: boolean;
}

/** The config with every reference resolved; all that can't be read are named at once, each with the reason. */
export const resolveSecrets = async (config: unknown): Promise<unknown> => {
  const unavailable: Unavailable[] = [];
  const resolved = await resolve(config, unavailable);
  if (unavailable.length === 0) return resolved;
  throw new ConnectError(
    'SECRET_UNAVAILABLE',
    `these secrets could not be read: ${unavailable.map(({ text }) => text).join('; ')}`,
    { retriable: unavailable.some(({ retriable }) => retriable) },
  );
};

const resolve = async (value: unknown, unavailable: Unavailable[]): Promise<unknown> => {
  if (typeof value === 'string') return resolveText(value, unavailable);
  if (Array.isArray(value)) return Promise.all(value.map((item) => resolve(item, unavailable)));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(async ([key, inner]) => [key, await resolve(inner, unavailable)] as const);
  return Object.fromEntries(await Promise.all(entries));
};

const resolveText = async (text: string, unavailable: Unavailable[]): Promise<string> => {
  let result = '';
  let at = 0;
  for (const match of text.matchAll(reference)) {
    result += text.slice(at, match.index);
    at = match.index + match[0].length;
    try {
      result += await lookUp[match[1] as Provider](match[2]!);
    } catch (thrown) {
      if (!isCode(thrown, 'SECRET_UNAVAILABLE')) throw thrown;
      unavailable.push({ text: `${match[0]}: ${thrown.message}`, retriable: thrown.retriable });
    }
  }
  return result + text.slice(at);
};

const isLocal = (): boolean => process.env.SLUICE_LOCAL === '1';

const missing = (message: string, options: { readonly retriable?: boolean; readonly cause?: unknown } = {}) =>
  new ConnectError('SECRET_UNAVAILABLE', message, options);

const lookUp: Record<Provider, (name: string) => Promise<string>> = {
  async env(name) {
    const value = process.env[name];
    if (value === undefined)
      throw missing(
        isLocal()
          ? `the variable is not set; set it where sluice is started`
          : `the function has no such variable; give it one by addEnvironment('${name}', …), or use \${secretsmanager:…} or \${ssm:…}`,
      );
    return value;
  },
  async file(name) {
    // Only the local host has files that an operator put there for its functions.
    if (!isLocal()) throw missing('a deployed function has no files; use ${secretsmanager:…} or ${ssm:…}');
    try {
      return (await readFile(name, 'utf8')).trimEnd();
    } catch (cause) {
      throw missing((cause as Error).message, { cause });
    }
  },
  async secretsmanager(name) {
    const [, id = name, key] = /^(arn(?::[^:]*){6}|[^:]+)(?::(.+))?$/.exec(name) ?? [];
    const text = await fetchOnce(`secretsmanager:${id}`, () => getSecret(id));
    return key === undefined ? text : keyOf(text, key);
  },
  ssm: (name) => fetchOnce(`ssm:${name}`, () => getParameter(name)),
};

const fetchOnce = (id: string, fetch: () => Promise<string>): Promise<string> => {
  const known = fetched.get(id);
  if (known !== undefined) return known;
  const value = fetch().catch((thrown: unknown) => {
    fetched.delete(id);
    throw thrown;
  });
  fetched.set(id, value);
  return value;
};

const getSecret = async (id: string): Promise<string> => {
  const { SecretString } = await call('secretsmanager', id, 'secretsmanager.GetSecretValue', { SecretId: id });
  if (typeof SecretString !== 'string') throw missing('the secret is binary; it has to be text');
  return SecretString;
};

const getParameter = async (id: string): Promise<string> => {
  const body = { Name: id, WithDecryption: true };
  const { Parameter } = await call('ssm', id, 'AmazonSSM.GetParameter', body);
  return String((Parameter as { readonly Value: string }).Value);
};

const services = {
  secretsmanager: { name: 'Secrets Manager', endpointVariable: 'AWS_ENDPOINT_URL_SECRETS_MANAGER' },
  ssm: { name: 'Systems Manager', endpointVariable: 'AWS_ENDPOINT_URL_SSM' },
} as const;

const call = async (
  service: keyof typeof services,
  id: string,
  target: string,
  body: object,
): Promise<Readonly<Record<string, unknown>>> => {
  const { name, endpointVariable } = services[service];
  if (isLocal()) throw missing(`the local host has no ${name}; here use \${env:NAME} or \${file:/path}`);
  // A secret given by its ARN may be in another region.
  const region = id.startsWith('arn:') ? id.split(':')[3] : undefined;
  try {
    return await callAws({ service, target, region, body, endpointVariable });
  } catch (thrown) {
    if (isCode(thrown, 'UNAVAILABLE')) throw missing(thrown.message, { retriable: true, cause: thrown });
    if (!(thrown instanceof AwsError)) throw thrown;
    throw missing(reasonOf(thrown, target), { cause: thrown });
  }
};

const reasonOf = ({ code, message }: AwsError, target: string): string => {
  if (/NotFound/.test(code)) return 'there is no such secret in this account and region';
  if (/AccessDenied/.test(code)) return `the function's role may not read it (${message || target})`;
  return `${code}: ${message}`;
};

/** Never with the text in the message: it is the secret. */
const keyOf = (text: string, key: string): string => {
  let value: unknown;
  try {
    value = (JSON.parse(text) as Record<string, unknown> | null)?.[key];
  } catch {
    throw missing(`the secret is no JSON, and so it has no key ${key}`);
  }
  if (typeof value !== 'string' && typeof value !== 'number') throw missing(`the secret has no key ${key}`);
  return String(value);
};
