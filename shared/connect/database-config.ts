import * as z from 'zod';
import type { Tells, WantedOrder } from './control.ts';

/** What stands for the topic's name in `table`. */
const topicReference = `\${topic}`;
/** What stands for the last part of it, behind its last dot: the table that a change is of. */
const tableReference = `\${table}`;

/** The name that a template gives for the records of a topic. */
export const tableNameOf = (template: string, topic: string): string =>
  template
    .replaceAll(topicReference, () => topic)
    .replaceAll(tableReference, () => topic.slice(topic.lastIndexOf('.') + 1));

/** What stands for a name that a change's `source` says. */
export const sourceNames = ['db', 'schema', 'table'] as const;
const sourceReference = (name: string) => `\${source.${name}}`;

/** Whether the names of tables are made of what each change says of its source. */
export const isOfSource = (template: string): boolean =>
  sourceNames.some((name) => template.includes(sourceReference(name)));

/** The template with the names that a change's source says; undefined where it does not say one of them. */
export const withSource = (
  template: string,
  source: { readonly [name: string]: string | undefined },
): string | undefined => {
  const used = sourceNames.filter((name) => template.includes(sourceReference(name)));
  if (used.some((name) => source[name] === undefined)) return undefined;
  return used.reduce((text, name) => text.replaceAll(sourceReference(name), () => source[name]!), template);
};

/** Whether records of all topics go to one table. */
export const isOneTable = (template: string): boolean =>
  !template.includes(topicReference) && !template.includes(tableReference) && !isOfSource(template);

export const sslModes = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;

/** What of a database's server a person has to know. */
export interface DatabaseServer {
  readonly system: string;
  /** The first part of its URLs. */
  readonly scheme: string;
  readonly port: number;
  /** Whom one logs in as. */
  readonly account: string;
}

/** Where a database server is and how to log in. */
export const connectionKeys = ({ scheme, port, account }: DatabaseServer) => ({
  url: z
    .string()
    .optional()
    .describe(
      `${scheme}://user:password@host:port/database, instead of the five keys below; \`?sslmode=\` counts as \`ssl\``,
    ),
  host: z.string().optional().describe('host name or address of the server'),
  port: z.number().int().min(1).max(65_535).default(port).describe('TCP port of the server'),
  database: z.string().optional().describe('database to write to'),
  user: z.string().optional().describe(`${account} to log in as`),
  password: z
    .string()
    .optional()
    .describe(`its password, as a reference: \${secretsmanager:…}, \${ssm:…} or \${env:…}`),
  auth: z
    .enum(['password', 'iam'])
    .default('password')
    .describe('iam: log in to Amazon RDS and Aurora as `user` by the function’s role, without a password'),
  ssl: z
    .enum(sslModes)
    .optional()
    .describe(
      "libpq's sslmode: prefer encrypts where the server can, require always, verify-ca checks the certificate, verify-full also the host name. Default: verify-full for Amazon RDS and with auth iam, else prefer",
    ),
  ca: z
    .string()
    .optional()
    .describe(
      'PEM certificates to trust for verify-ca and verify-full, or `rds` for those of Amazon RDS. Default: the system’s, for an RDS host name also those of RDS',
    ),
});

/** What a login needs of a config. */
export type DatabaseConnectionConfig = z.output<z.ZodObject<ReturnType<typeof connectionKeys>>>;

/** How records become rows of tables. */
export const rowKeys = (qualified: string) => ({
  table: z
    .string()
    .min(1)
    .regex(
      /^([^$]|\$(?!\{)|\$\{(topic|table|source\.(db|schema|table))\})*$/,
      `the only references are ${[topicReference, tableReference, ...sourceNames.map(sourceReference)].join(', ')}`,
    )
    .default(topicReference)
    .describe(
      `table that records go to, as table or ${qualified}; ${topicReference} stands for the topic's name, ${tableReference} for what is behind its last dot, ${sourceReference('table')}, .schema and .db for the names in a change's source`,
    ),
  mode: z
    .enum(['insert', 'upsert'])
    .optional()
    .describe(
      'insert: every record is a new row; upsert: a record replaces the row of its key. Default: upsert where records have keys, else insert',
    ),
  keyFields: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe(
      'names of the primary key’s columns, taken from the record’s key where it has them, else from its value. Default: the fields of the key',
    ),
  delete: z
    .boolean()
    .default(true)
    .describe(
      'upsert only. true: a record without value (a tombstone) deletes the row of its key; false: it is passed over',
    ),
  visibility: z
    .enum(['record', 'batch'])
    .default('record')
    .describe(
      'record: each batch is visible once it is written; batch: the records of a run (a snapshot, one window of a query) become visible together when it ends, which needs topics of one queue',
    ),
  transactions: z
    .enum(['batch', 'atomic'])
    .default('batch')
    .describe(
      'batch: each batch is a transaction; atomic: what the source changed in one transaction is written in one, which needs a source that tells where its transactions end, and one topic of one queue or a direct connector',
    ),
  create: z.boolean().default(true).describe('create a table that is missing'),
  evolve: z
    .enum(['add', 'widen-only', 'evolve', 'ignore', 'fail'])
    .default('add')
    .describe(
      'what happens to a field that the table has no column for, or a narrower one. add: the column is added; widen-only: and one that is too narrow for a field of its kind is widened; evolve: and one of another kind becomes a text; ignore: the field is left out; fail: the task stops',
    ),
});

/** The order that these settings need. */
export const orderOf = ({
  visibility,
  transactions,
}: {
  readonly visibility: string;
  readonly transactions: string;
}): WantedOrder | undefined => {
  if (transactions === 'atomic') return { of: 'all records', setting: 'transactions atomic', waitsFor: 'transactions' };
  return visibility === 'batch' ? { of: 'a topic', setting: 'visibility batch', waitsFor: 'runs' } : undefined;
};

/** What a source of changes tells of. */
export const tellsOf = ({ runs, transactions }: { readonly runs: boolean; readonly transactions: boolean }): Tells => ({
  runs: runs || 'runs: true',
  transactions: transactions || 'transactions: true',
});

/** What a config of these keys must hold, each with what to say where it does not. */
export const databaseRules = {
  address: [
    ({ url, host, database, user, password }: DatabaseConnectionConfig) => {
      const parts = [host, database, user];
      if (url !== undefined) return [...parts, password].every((part) => part === undefined);
      return parts.every((part) => part !== undefined);
    },
    'give either `url`, or `host`, `database` and `user`',
  ],
  /** Where what is read is not of one database. */
  server: [
    ({ url, host, user, password }: DatabaseConnectionConfig) => {
      const parts = [host, user];
      if (url !== undefined) return [...parts, password].every((part) => part === undefined);
      return parts.every((part) => part !== undefined);
    },
    'give either `url`, or `host` and `user`',
  ],
  iamHasNoSecret: [
    ({ auth, url, password }: DatabaseConnectionConfig) =>
      auth === 'password' || (url === undefined && password === undefined),
    {
      path: ['auth'] as string[],
      message: 'iam needs no secret: give `host`, `database` and `user`, and leave `url` and `password` out',
    },
  ],
  iamIsEncrypted: [
    ({ auth, ssl }: DatabaseConnectionConfig) => auth === 'password' || (ssl !== 'disable' && ssl !== 'prefer'),
    {
      path: ['ssl'] as string[],
      message: 'with auth iam the connection must be encrypted: use require, verify-ca or verify-full',
    },
  ],
  wholeRunsOrTransactions: [
    ({ visibility, transactions }: { readonly visibility: string; readonly transactions: string }) =>
      visibility === 'record' || transactions === 'batch',
    {
      path: ['transactions'] as string[],
      message:
        'a run is shown whole at its end, and a transaction at its own: set visibility to batch or transactions to atomic',
    },
  ],
  runsByTopic: [
    ({ visibility, table }: { readonly visibility: string; readonly table: string }) =>
      visibility === 'record' || !isOfSource(table),
    {
      path: ['table'] as string[],
      message:
        'a run is of a topic and goes to one table, which a name of the source does not tell: use the topic in it',
    },
  ],
  keyFieldsNeedUpsert: [
    ({ mode, keyFields }: { readonly mode?: string | undefined; readonly keyFields?: unknown }) =>
      mode !== 'insert' || keyFields === undefined,
    {
      path: ['keyFields'] as string[],
      message: 'keyFields belongs to mode upsert: with mode insert no row replaces another',
    },
  ],
} as const;
