import type { Delivery } from '../connect/connector.ts';
import type { ErrorPolicy } from '../connect/spec.ts';

/**
 * The one place that knows how Kafka Connect and RocketMQ Connect (its old and its present form) spell a connector's config, so that
 * the JSON people have runs as it is. Everything behind it knows a ConnectorSpec and the connector's own config.
 */
export interface SplitConfig {
  /** Named by the connector's class, where there is one. */
  readonly plugin?: string;
  readonly role?: Role;
  readonly framework: FrameworkConfig;
  /** The connector's own part. */
  readonly config: { readonly [key: string]: unknown };
  /** How a key of `config` was spelled, where it got another name. */
  readonly spelled: { readonly [key: string]: string };
  /** Keys that are understood and mean nothing here, such as converters: records stay typed from end to end. */
  readonly ignored: readonly string[];
  readonly problems: readonly KeyProblem[];
}

export type Role = 'source' | 'sink';

/** The framework's part of a ConnectorSpec. */
export interface FrameworkConfig {
  readonly name?: string;
  readonly tasks?: number;
  readonly from?: readonly string[];
  readonly maxRecords?: number;
  readonly delivery?: Delivery;
  readonly errors?: Partial<ErrorPolicy>;
}

export interface KeyProblem {
  readonly key: string;
  readonly message: string;
}

interface ConnectorClass {
  readonly plugin: string;
  readonly role: Role;
  /** The connector's own keys, from theirs to ours. */
  readonly keys: { readonly [key: string]: string };
  /** What the class always does, and its config does not say. */
  readonly implied: { readonly [key: string]: unknown };
}

const path = { file: 'path', filename: 'path' };
/** Lines of a file that is still being written. */
const lineSource: ConnectorClass = {
  plugin: 'file',
  role: 'source',
  keys: path,
  implied: { format: 'text', follow: true },
};
const lineSink: ConnectorClass = { plugin: 'file', role: 'sink', keys: path, implied: { format: 'text' } };

const classes: { readonly [name: string]: ConnectorClass } = {
  'org.apache.rocketmq.connect.file.FileSourceConnector': lineSource,
  'org.apache.rocketmq.connect.file.FileSinkConnector': lineSink,
  'org.apache.kafka.connect.file.FileStreamSourceConnector': lineSource,
  'org.apache.kafka.connect.file.FileStreamSinkConnector': lineSink,
};

/** Kafka Connect also takes a class by its short name, with or without `Connector`. */
const classOf = (name: string): ConnectorClass | undefined =>
  classes[name] ??
  Object.entries(classes).find(([full]) => {
    const short = full.slice(full.lastIndexOf('.') + 1);
    return name === short || `${name}Connector` === short;
  })?.[1];

type Setting = 'class' | 'name' | 'tasks' | 'topics' | 'topic' | 'batch' | 'delivery' | 'ignored' | ErrorSetting;
type ErrorSetting = keyof ErrorPolicy;

const settings: { readonly [key: string]: Setting } = {
  'connector.class': 'class',
  'connector-class': 'class',
  'tasks.max': 'tasks',
  'max.tasks': 'tasks',
  topics: 'topics',
  topicNames: 'topics',
  'connect.topicnames': 'topics',
  'connect.topicname': 'topic',
  topic: 'topic',
  'batch.size': 'batch',
  'exactly.once.support': 'delivery',
  'errors.tolerance': 'tolerance',
  'errors.retry.timeout': 'retryTimeoutMs',
  'errors.retry.delay.max.ms': 'retryDelayMaxMs',
  'errors.deadletterqueue.topic.name': 'deadLetterTopic',
  'tasks.max.enforce': 'ignored',
  'config.action.reload': 'ignored',
  'errors.log.enable': 'ignored',
  'errors.log.include.messages': 'ignored',
  'errors.deadletterqueue.topic.replication.factor': 'ignored',
  'errors.deadletterqueue.context.headers.enable': 'ignored',
  'errors.deadletterqueue.context.properties.enable': 'ignored',
  'source-record-converter': 'ignored',
  'sink-record-converter': 'ignored',
};
const ignoredPrefixes = [
  'key.converter',
  'value.converter',
  'header.converter',
  'producer.override.',
  'consumer.override.',
  'admin.override.',
];
/** To leave these out would change the data. */
const refusedPrefixes = ['transforms', 'predicates', 'topics.regex'];

/** Whether a JSON object is a connector's config as Kafka Connect or RocketMQ Connect has it. */
export const isConnectConfig = (value: { readonly [key: string]: unknown }): boolean =>
  'connector.class' in value || 'connector-class' in value;

/**
 * Splits a flat config into the framework's part and the connector's. `role` is given where it is known from elsewhere; `name` and
 * `topic` belong to the framework only in a config that names its class: elsewhere they may be the connector's own.
 */
export const splitConfig = (flat: { readonly [key: string]: unknown }, role?: Role): SplitConfig => {
  const problems: KeyProblem[] = [];
  const named = readClass(flat, role, problems);
  const reader = settingReader(named?.role ?? role, named !== undefined, problems);
  const config: Record<string, unknown> = { ...named?.implied };
  const spelled: Record<string, string> = {};
  const ignored: string[] = [];
  for (const [key, value] of Object.entries(flat)) {
    const use = useOf(key, named !== undefined);
    if (use === 'class') continue;
    if (use === 'ignored') ignored.push(key);
    else if (use === 'refused') problems.push({ key, message: `${key} is not supported yet` });
    else if (use === 'own' || !reader.read(use, key, value)) {
      const own = named?.keys[key] ?? (use === 'topic' ? 'topic' : key);
      if (own in spelled) problems.push({ key, message: `${spelled[own]} says it already` });
      config[own] = value;
      spelled[own] = key;
    }
  }
  return {
    ...(named === undefined ? {} : { plugin: named.plugin, role: named.role }),
    framework: reader.framework(),
    config,
    spelled,
    ignored,
    problems,
  };
};

const useOf = (key: string, named: boolean): Setting | 'own' | 'refused' => {
  if (refusedPrefixes.some((prefix) => key === prefix || key.startsWith(`${prefix}.`))) return 'refused';
  if (ignoredPrefixes.some((prefix) => key.startsWith(prefix))) return 'ignored';
  if (key === 'name') return named ? 'name' : 'own';
  if (key === 'batch.size') return named ? 'batch' : 'own';
  return Object.hasOwn(settings, key) ? settings[key]! : 'own';
};

const readClass = (
  flat: { readonly [key: string]: unknown },
  role: Role | undefined,
  problems: KeyProblem[],
): ConnectorClass | undefined => {
  const keys = ['connector.class', 'connector-class'].filter((key) => key in flat);
  const key = keys[0];
  if (key === undefined) return undefined;
  if (keys.length > 1 && flat[keys[0]!] !== flat[keys[1]!])
    problems.push({ key: keys[1]!, message: `differs from ${key}` });
  const name = String(flat[key]);
  const found = classOf(name);
  if (found === undefined)
    problems.push({ key, message: `there is no connector ${name}; known are: ${Object.keys(classes).join(', ')}` });
  else if (role !== undefined && found.role !== role) problems.push({ key, message: `${name} is a ${found.role}` });
  return found;
};

/** Collects the framework's part; `read` answers false for a key that belongs to the connector after all. */
const settingReader = (role: Role | undefined, named: boolean, problems: KeyProblem[]) => {
  const framework: { -readonly [key in keyof FrameworkConfig]: FrameworkConfig[key] } = {};
  const errors: { -readonly [key in ErrorSetting]?: unknown } = {};
  const from: string[] = [];

  const integer = (key: string, value: unknown, min: number): number | undefined => {
    const number = typeof value === 'number' || /^-?\d+$/.test(String(value)) ? Number(value) : Number.NaN;
    if (Number.isInteger(number) && number >= min) return number;
    problems.push({ key, message: `expected a whole number of at least ${min}, got ${JSON.stringify(value)}` });
    return undefined;
  };
  const once = <T>(key: string, before: T | undefined, value: T | undefined): T | undefined => {
    if (before !== undefined && value !== undefined && before !== value)
      problems.push({ key, message: `${value} differs from ${before}, which another spelling of the key says` });
    return value ?? before;
  };
  const choice = (key: string, value: unknown, choices: readonly string[]): string | undefined => {
    if (choices.includes(String(value))) return String(value);
    problems.push({ key, message: `expected ${choices.join(' or ')}, got ${JSON.stringify(value)}` });
    return undefined;
  };

  const read = (setting: Exclude<Setting, 'class' | 'ignored'>, key: string, value: unknown): boolean => {
    switch (setting) {
      case 'name':
        framework.name = String(value);
        return true;
      case 'tasks':
        framework.tasks = once(key, framework.tasks, integer(key, value, 1));
        return true;
      case 'batch':
        framework.maxRecords = integer(key, value, 1);
        return true;
      case 'topic':
        if (role !== 'sink' || (key === 'topic' && !named)) return false;
        from.push(String(value));
        return true;
      case 'topics':
        if (role !== 'sink') return false;
        from.push(...topicList(value));
        return true;
      case 'delivery':
        if (choice(key, value, ['requested', 'required']) === 'required') framework.delivery = 'exactly-once';
        return true;
      case 'tolerance':
        errors.tolerance = choice(key, value, ['none', 'all']);
        return true;
      case 'deadLetterTopic':
        errors.deadLetterTopic = String(value);
        return true;
      case 'retryTimeoutMs': {
        const timeoutMs = integer(key, value, -1);
        // Kafka Connect's -1 is for ever; a run ends by its own deadline, and the next one goes on.
        errors.retryTimeoutMs = timeoutMs === -1 ? Number.MAX_SAFE_INTEGER : timeoutMs;
        return true;
      }
      case 'retryDelayMaxMs':
        errors.retryDelayMaxMs = integer(key, value, 1);
        return true;
    }
  };

  return {
    read,
    framework: (): FrameworkConfig => ({
      ...framework,
      ...(from.length === 0 ? {} : { from }),
      ...(Object.keys(errors).length === 0 ? {} : { errors: errors as Partial<ErrorPolicy> }),
    }),
  };
};

const topicList = (value: unknown): readonly string[] =>
  (Array.isArray(value) ? value.map(String) : String(value).split(',')).map((topic) => topic.trim()).filter(Boolean);
