import * as z from 'zod';
import type { Tells } from './control.ts';
import { isPattern, topicOf } from './table-names.ts';

export const queryModes = ['bulk', 'incrementing', 'timestamp', 'timestamp+incrementing'] as const;
export type QueryMode = (typeof queryModes)[number];

/** What a source by queries reads and how, in the words of Kafka Connect's JDBC source. `qualified` is how a table is written. */
export const queryKeys = (qualified: string) => {
  const table = z.string().regex(/^[^.]+\..+$/, `a table is ${qualified}; * stands for any characters`);
  const columns = z.array(z.string().min(1)).min(1);
  return {
    topicPrefix: z
      .string()
      .regex(/^[A-Za-z0-9._-]{1,100}$/, '1 to 100 of the characters A-Z a-z 0-9 . _ -')
      .describe(`name of this server in topics and offsets: a table goes to the topic <prefix>.<${qualified}>`),
    mode: z
      .enum(queryModes)
      .describe(
        'bulk: all rows, each time; incrementing: rows with a higher incrementingColumn than before; timestamp: rows with a later timestamp; timestamp+incrementing: both, rows of one timestamp told apart by the column. None of them sees that a row was deleted',
      ),
    tables: z
      .array(table)
      .min(1)
      .optional()
      .describe(`tables or views to read, as ${qualified}; with a * it is a pattern, which needs \`topic\``),
    excludeTables: z.array(table).default([]).describe('tables to leave out of a pattern'),
    query: z
      .string()
      .min(1)
      .optional()
      .describe(
        'a SELECT to read instead of tables, which needs `topic`. It is put in parentheses, as a table of its own: conditions, order and limit come around it',
      ),
    topic: z
      .string()
      .regex(/^[A-Za-z0-9._-]{1,200}$/, 'a topic is 1 to 200 of the characters A-Z a-z 0-9 . _ -')
      .optional()
      .describe('one topic for all. Default: a topic for each table'),
    incrementingColumn: z
      .string()
      .min(1)
      .optional()
      .describe(
        'column that only grows from row to row. A lower value that commits after a higher one was read is never read: where transactions overlap, use timestamp+incrementing',
      ),
    timestampColumns: columns
      .optional()
      .describe(
        'columns of the time of the last change; the first that is not null counts. Rows without any are not read',
      ),
    timestampInitialMs: z
      .number()
      .int()
      .nonnegative()
      .optional()
      .describe('milliseconds since 1970: older rows are not read. Default: all are'),
    timestampDelayIntervalMs: z
      .number()
      .int()
      .nonnegative()
      .default(5_000)
      .describe(
        'rows younger than this, by the clock of the server, are left for later: a transaction that began earlier may commit later. It must be longer than any transaction that writes the tables: what commits later than that is never read',
      ),
    dbTimezone: z
      .string()
      .regex(/^[A-Za-z0-9_+\-/:]+$/, 'a time zone is a name like Europe/Berlin, or an offset like +02:00')
      .default('UTC')
      .describe('time zone of the wall clocks in timestamp columns that have none'),
    validateNonNull: z
      .boolean()
      .default(true)
      .describe(
        'a column that rows are read by and that may be null is a problem of the check. false: rows without a timestamp are left out',
      ),
    where: z.string().min(1).optional().describe('condition in SQL that rows have to meet'),
    columns: columns
      .optional()
      .describe(`columns to read, as column or ${qualified}.column; those of the key are always read. Default: all`),
    excludeColumns: columns.optional().describe(`columns to leave out, as column or ${qualified}.column`),
    runs: z
      .boolean()
      .default(false)
      .describe(
        'what is read of a table at a time travels as one run, between two control records: a sink with `visibility: batch` shows it whole. bulk: each reading, and what the table has no more is gone. Other modes: what was there when reading began',
      ),
    keyFields: columns
      .optional()
      .describe('columns that are the key of records, and unique. Default: those of the primary key'),
  };
};

export type QueryConfig = z.output<z.ZodObject<ReturnType<typeof queryKeys>>>;

type Given = Pick<
  QueryConfig,
  'mode' | 'tables' | 'query' | 'topic' | 'runs' | 'incrementingColumn' | 'timestampColumns' | 'timestampInitialMs'
>;

/** What must hold, and what to say where it does not. */
const rules: readonly (readonly [
  isKept: (config: Given) => boolean,
  rule: { readonly path: string[]; readonly message: string },
])[] = [
  [
    ({ tables, query }) => (tables === undefined) !== (query === undefined),
    { path: ['tables'], message: 'give either `tables` or `query`' },
  ],
  [
    ({ query, topic }) => query === undefined || topic !== undefined,
    { path: ['topic'], message: 'a query has no name: say which topic its rows go to' },
  ],
  [
    ({ tables, topic }) => topic !== undefined || tables?.some(isPattern) !== true,
    {
      path: ['topic'],
      message: 'a pattern matches tables that are not known yet; say which topic they go to, or list the tables',
    },
  ],
  [
    ({ mode, incrementingColumn }) => mode.includes('incrementing') === (incrementingColumn !== undefined),
    {
      path: ['incrementingColumn'],
      message: 'it belongs to the modes incrementing and timestamp+incrementing, which need it',
    },
  ],
  [
    ({ mode, timestampColumns }) => mode.includes('timestamp') === (timestampColumns !== undefined),
    {
      path: ['timestampColumns'],
      message: 'they belong to the modes timestamp and timestamp+incrementing, which need them',
    },
  ],
  [
    ({ runs, topic, tables = [] }) => !runs || topic === undefined || (tables.length < 2 && !tables.some(isPattern)),
    {
      path: ['runs'],
      message: 'a run is told in the topic of its table, and all tables go to one topic: leave out topic or runs',
    },
  ],
  [
    ({ mode, timestampInitialMs }) => mode.includes('timestamp') || timestampInitialMs === undefined,
    { path: ['timestampInitialMs'], message: 'it belongs to the modes timestamp and timestamp+incrementing' },
  ],
];

/** What a config of these keys must hold. */
export const refineQuery = (config: Given, ctx: z.RefinementCtx<unknown>): void => {
  for (const [isKept, rule] of rules) if (!isKept(config)) ctx.addIssue({ code: 'custom', ...rule });
};

export const queryTopics = (config: Pick<QueryConfig, 'tables' | 'topic' | 'topicPrefix'>): readonly string[] => [
  ...new Set((config.tables ?? ['']).map((table) => topicOf(config, table))),
];

/** All records are of runs, so that the end of one ends all that is to be written whole. */
export const queryTells = ({ runs }: Pick<QueryConfig, 'runs'>): Tells => ({
  runs: runs || 'runs: true',
  transactions: runs || 'runs: true',
});

/** Whether all tasks read every table, each its ranges of the key. Where a query ends is not known before it does. */
export const readsInRanges = ({ mode, query }: Pick<QueryConfig, 'mode' | 'query'>): boolean =>
  mode === 'bulk' && query === undefined;

/** All tables for each task in bulk, else a share of them. What a pattern matches is known to a run only, so that it is one task. */
export const queryTasks = <C extends QueryConfig>(config: C, maxTasks: number): readonly C[] => {
  const { tables } = config;
  if (readsInRanges(config)) return Array.from({ length: maxTasks }, () => config);
  if (tables === undefined || tables.some(isPattern)) return [config];
  const count = Math.min(maxTasks, tables.length);
  return Array.from({ length: count }, (_, task) => ({
    ...config,
    tables: tables.filter((_, i) => i % count === task),
  }));
};

/** How far a table, a range of its key or a query is read. Stored: a change of its shape needs a reader for this one. */
export const QueryOffset = z.strictObject({
  server: z.string().describe("MySQL's server_uuid, MariaDB's server_id, PostgreSQL's system identifier."),
  mode: z.enum(queryModes),
  by: z.string().describe('The columns that rows are read in the order of.'),
  filter: z.string().optional().describe('A hash of `where` and `query`.'),
  after: z
    .array(z.string())
    .nullable()
    .describe('The values of those columns, as the server writes them, in the last row that was read.'),
  to: z
    .array(z.string())
    .optional()
    .describe('A run of another mode than bulk is open: the value of the first of those columns up to which it goes.'),
  run: z.int().positive().optional().describe('How many times reading has been begun: bulk, and where runs are told.'),
  bounds: z
    .array(z.array(z.string()))
    .optional()
    .describe('bulk by several tasks: keys, ascending, each the last one of its range. Each range has an offset.'),
  sinceMs: z
    .int()
    .optional()
    .describe('bulk: when the reading of all tables began, of which this is a part; milliseconds since 1970.'),
  endedMs: z.int().optional().describe('bulk: when all rows had been read; milliseconds since 1970.'),
});
export type QueryOffset = z.output<typeof QueryOffset>;
