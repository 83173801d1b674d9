import type * as z from 'zod';

/** A topic takes fewer characters than a table's name. `table` is schema.table, or database.table. */
export const topicOf = (
  { topic, topicPrefix }: { readonly topic?: string | undefined; readonly topicPrefix: string },
  table: string,
): string => topic ?? `${topicPrefix}.${table}`.replace(/[^A-Za-z0-9._-]/g, '_').slice(0, 200);

export const isPattern = (table: string): boolean => table.includes('*');

const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');

const matcherOf = (patterns: readonly string[]): RegExp =>
  new RegExp(`^(${patterns.map((pattern) => pattern.split('*').map(escaped).join('.*')).join('|')})$`);

/** Whether a table is one of those to read; a * stands for any characters. */
export const tableFilter = ({
  tables,
  excludeTables,
}: {
  readonly tables: readonly string[];
  readonly excludeTables: readonly string[];
}): ((table: string) => boolean) => {
  const included = matcherOf(tables);
  const excluded = excludeTables.length === 0 ? undefined : matcherOf(excludeTables);
  return (table) => included.test(table) && excluded?.test(table) !== true;
};

/** The topics of a pattern's tables are not known from the config. */
export const patternsNeedTopic = (
  { tables, topic }: { readonly tables: readonly string[]; readonly topic?: string | undefined },
  ctx: z.RefinementCtx,
): void => {
  const pattern = tables.find(isPattern);
  if (pattern !== undefined && topic === undefined)
    ctx.addIssue({
      code: 'custom',
      path: ['topic'],
      message: `${pattern} matches tables that are not known yet; say which topic they go to, or list the tables`,
    });
};

export const runsNeedTopics = [
  ({ topic, runs }: { readonly topic?: string | undefined; readonly runs: boolean }) => !runs || topic === undefined,
  {
    path: ['runs'] as string[],
    message: 'a run is told in the topic of its table, and all tables go to one topic: leave out topic or runs',
  },
] as const;
