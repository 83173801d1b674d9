import * as z from 'zod';

/** What stands for the topic's name in `table`. */
export const topicReference = `\${topic}`;

export const sslModes = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full'] as const;

/** Where a PostgreSQL server is and how to log in. */
export const connection = {
  url: z
    .string()
    .optional()
    .describe(
      'postgres://user:password@host:port/database, instead of the five keys below; `?sslmode=` counts as `ssl`',
    ),
  host: z.string().optional().describe('host name or address of the server'),
  port: z.number().int().min(1).max(65_535).default(5432).describe('TCP port of the server'),
  database: z.string().optional().describe('name of the database'),
  user: z.string().optional().describe('role to log in as'),
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
};

const Connection = z.strictObject(connection);
/** What a connection needs of a config. */
export type PostgresConnectionConfig = z.output<typeof Connection>;

/** The keys of a connection that do not go together. */
export const checkConnection = (
  { url, host, database, user, password, auth, ssl }: PostgresConnectionConfig,
  ctx: z.RefinementCtx,
): void => {
  const problem = (path: string[], message: string) => ctx.addIssue({ code: 'custom', path, message });
  const parts = [host, database, user];
  const fits =
    url === undefined
      ? parts.every((part) => part !== undefined)
      : [...parts, password].every((part) => part === undefined);
  if (!fits) problem([], 'give either `url`, or `host`, `database` and `user`');
  if (auth === 'password') return;
  if (url !== undefined || password !== undefined)
    problem(['auth'], 'iam needs no secret: give `host`, `database` and `user`, and leave `url` and `password` out');
  if (ssl === 'disable' || ssl === 'prefer')
    problem(['ssl'], 'with auth iam the connection must be encrypted: use require, verify-ca or verify-full');
};

export const PostgresSinkConfig = z
  .strictObject({
    ...connection,
    schema: z.string().min(1).default('public').describe('schema of sluice_offsets, and of tables named without one'),
    table: z
      .string()
      .min(1)
      .regex(/^([^$]|\$(?!\{)|\$\{topic\})*$/, `the only reference is ${topicReference}`)
      .default(topicReference)
      .describe(`table that records go to, as table or schema.table; ${topicReference} stands for the topic's name`),
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
    create: z.boolean().default(true).describe('create a table that is missing'),
    evolve: z
      .enum(['add', 'ignore', 'fail'])
      .default('add')
      .describe(
        'what happens to a field the table has no column for. add: the column is added; ignore: the field is left out; fail: the task stops',
      ),
  })
  .superRefine(checkConnection)
  .refine(({ mode, keyFields }) => mode !== 'insert' || keyFields === undefined, {
    path: ['keyFields'],
    message: 'keyFields belongs to mode upsert: with mode insert no row replaces another',
  });

export type PostgresSinkConfig = z.output<typeof PostgresSinkConfig>;
