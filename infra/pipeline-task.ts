import { basename } from 'node:path';
import { isConnectConfig, splitConfig } from '../shared/management/config-keys.ts';
import type { Problem } from './problems.ts';

/** A Kafka Connect or RocketMQ Connect task file as a pipeline of just that connector. */
export interface TaskFile {
  /** In the form of a pipeline file. */
  readonly pipeline?: { readonly [key: string]: unknown };
  /** Topics that it reads: whoever wrote the file has them already. */
  readonly externalTopics: readonly string[];
  readonly problems: readonly Problem[];
  /** From the path of a problem in `pipeline` to its place in the file. */
  locate(path: readonly PropertyKey[]): readonly PropertyKey[];
}

type Flat = { readonly [key: string]: unknown };

/** Undefined: the file is none, but a pipeline file in JSON. Flat, or as `POST /connectors` takes it: `{ name, config }`. */
export const readTaskFile = (file: string, value: unknown): TaskFile | undefined => {
  if (!isObject(value)) return undefined;
  const inner = isObject(value.config) ? value.config : undefined;
  const flat = isConnectConfig(value) ? value : inner;
  if (flat === undefined || !isConnectConfig(flat)) return undefined;
  const prefix = flat === value ? [] : ['config'];
  const { role, framework, problems } = splitConfig(flat);
  const name = String(value.name ?? framework.name ?? basename(file).replace(/\.[^.]+$/, ''));
  const { name: _, ...config } = flat;
  const section = role === 'source' ? { every: '1m', config } : { config };
  return {
    ...(role === undefined ? {} : { pipeline: { name, [`${role}s`]: { [name]: section } } }),
    externalTopics: framework.from ?? [],
    problems: role === undefined ? problems.map(({ key, message }) => ({ path: [...prefix, key], message })) : [],
    locate: ([, , inConfig, ...rest]) => (inConfig === 'config' ? [...prefix, ...rest] : prefix),
  };
};

const isObject = (value: unknown): value is Flat =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
