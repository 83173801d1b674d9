import { readFile } from 'node:fs/promises';
import { ConnectError } from '../connect/errors.ts';

/**
 * Secrets are references in every stored config (invariant 10); they become values here, inside the function that uses them, and
 * nowhere else. `${env:NAME}` and, on the local host, `${file:/path}`.
 */
const reference = /\$\{(env|file):([^}]+)\}/g;

/** The config with every reference resolved; all that are missing are named at once. */
export const resolveSecrets = async (config: unknown): Promise<unknown> => {
  const missing: string[] = [];
  const resolved = await resolve(config, missing);
  if (missing.length === 0) return resolved;
  throw new ConnectError(
    'SECRET_UNAVAILABLE',
    `these secrets could not be read: ${missing.join(', ')}; set them where the function runs`,
  );
};

const resolve = async (value: unknown, missing: string[]): Promise<unknown> => {
  if (typeof value === 'string') return resolveText(value, missing);
  if (Array.isArray(value)) return Promise.all(value.map((item) => resolve(item, missing)));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(async ([key, inner]) => [key, await resolve(inner, missing)] as const);
  return Object.fromEntries(await Promise.all(entries));
};

const resolveText = async (text: string, missing: string[]): Promise<string> => {
  let result = '';
  let at = 0;
  for (const match of text.matchAll(reference)) {
    const value = await lookUp(match[1]!, match[2]!);
    if (value === undefined) missing.push(match[0]);
    result += text.slice(at, match.index) + (value ?? '');
    at = match.index + match[0].length;
  }
  return result + text.slice(at);
};

const lookUp = async (provider: string, name: string): Promise<string | undefined> => {
  if (provider === 'env') return process.env[name];
  // Only the local host has files that an operator put there for its functions.
  if (process.env.SLUICE_S3_DIRECTORY === undefined) return undefined;
  try {
    return (await readFile(name, 'utf8')).trimEnd();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new ConnectError('SECRET_UNAVAILABLE', `the secret file ${name} can't be read: ${(cause as Error).message}`, {
      cause,
    });
  }
};
