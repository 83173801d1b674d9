import type { RecordGroup } from '../connect/batch.ts';
import { type Schema, sameSchema } from '../connect/schema.ts';
import type { Layout } from './layout.ts';
import type { Target, Targets } from './plan.ts';

interface Known<T extends Target> {
  readonly key: Schema | undefined;
  readonly value: Schema;
  readonly columnCount: number;
  readonly untold: string;
  readonly table: string | undefined;
  readonly staging: string | undefined;
  readonly target: T;
}

/** The targets of one session: each is prepared once for a topic and its schemas. */
export const rememberTargets = <T extends Target>(
  prepare: (group: RecordGroup, layout: Layout, staging: string | undefined) => Promise<T>,
): Targets<T> => {
  const known = new Map<string, Known<T>[]>();
  return {
    async of(group, layout, staging) {
      const { topic } = group;
      const candidates = known.get(topic) ?? [];
      const columnCount = layout.columns.length;
      const untold = layout.untold?.join('\0') ?? '';
      const same = candidates.find(
        ({ key, value, ...one }) =>
          one.columnCount === columnCount &&
          one.untold === untold &&
          one.table === layout.table &&
          one.staging === staging &&
          sameSchema(value, group.value.schema) &&
          sameSchema(key, group.key?.schema),
      );
      if (same !== undefined) return same.target;
      const target = await prepare(group, layout, staging);
      const made = {
        key: group.key?.schema,
        value: group.value.schema,
        columnCount,
        untold,
        table: layout.table,
        staging,
        target,
      };
      known.set(topic, [...candidates, made]);
      return target;
    },
  };
};
