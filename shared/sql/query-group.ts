import type { Column, RecordGroup } from '../connect/batch.ts';
import type { Field, StructSchema } from '../connect/schema.ts';

/** Flat rows. All but the key may be null: it is the server's to change. */
export const flatGroup = (
  columns: readonly Column[],
  count: number,
  topic: string,
  key: readonly string[],
): RecordGroup => {
  const side = (suffix: string, all: readonly Column[]) => {
    const fields = all.map(
      ({ name, schema }): Field => ({
        name,
        schema: key.includes(name) ? schema : { ...schema, optional: true },
      }),
    );
    const schema: StructSchema = { type: 'struct', name: `${topic}.${suffix}`, fields };
    return { schema, columns: all.map((column, i) => ({ ...column, schema: fields[i]!.schema }) as Column) };
  };
  const keys = key.map((name) => columns.find((column) => column.name === name)!);
  return { topic, count, ...(key.length === 0 ? {} : { key: side('Key', keys) }), value: side('Value', columns) };
};
