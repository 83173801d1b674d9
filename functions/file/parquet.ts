import { ByteWriter, parquetWrite, type SchemaElement } from 'hyparquet-writer';
import type { RecordGroup } from '../../shared/connect/batch.ts';
import type { ConnectError } from '../../shared/connect/errors.ts';
import { isStruct } from '../../shared/connect/schema.ts';
import { plainColumn } from '../../shared/connect/to-csv.ts';
import { allBad, type FileBuilder } from './file-builder.ts';
import { parquetElement, parquetValues } from './parquet-columns.ts';

/** A reader holds at least one row group in memory. */
const rowsPerGroup = 100_000;

interface FileColumn {
  readonly element: SchemaElement;
  readonly values: unknown[];
}

/** A Parquet file with the columns of all its groups; where a group lacks one it is null. */
export const newParquetFile = (codec: 'SNAPPY' | 'UNCOMPRESSED'): FileBuilder => {
  const columns = new Map<string, FileColumn>();
  let rows = 0;

  const append = (element: SchemaElement, values: readonly unknown[]) => {
    let column = columns.get(element.name);
    if (column === undefined) {
      column = { element, values: new Array(rows).fill(null) };
      columns.set(element.name, column);
    }
    for (const value of values) column.values.push(value);
  };

  return {
    accepts: (group) =>
      elementsOf(group).every((element) => {
        const there = columns.get(element.name);
        return there === undefined || JSON.stringify(there.element) === JSON.stringify(element);
      }),
    add(group) {
      if (group.value.columns.length === 0) return allBad(group, 'has no fields, and Parquet keeps nothing but fields');
      const bad = new Map<number, ConnectError>();
      const parts = group.value.columns.map((column) => parquetValues(column, group.count, bad));
      for (const [index, element] of elementsOf(group).entries())
        append(element, bad.size === 0 ? parts[index]! : parts[index]!.filter((_, row) => !bad.has(row)));
      rows += group.count - bad.size;
      for (const { values } of columns.values()) while (values.length < rows) values.push(null);
      return bad;
    },
    async finish() {
      const writer = new ByteWriter();
      await parquetWrite({
        writer,
        codec,
        createdBy: 'sluice',
        rowGroupSize: rowsPerGroup,
        schema: [
          { name: 'root', num_children: columns.size },
          ...Array.from(columns.values(), ({ element }) => element),
        ],
        columnData: Array.from(columns.values(), ({ element, values }) => ({
          name: element.name,
          data: values,
          // The least and greatest JSON text tell a reader nothing, and would be kept whole in the footer.
          statistics: element.logical_type?.type !== 'JSON',
          // The library's dictionary takes 0 and -0 for one value.
          ...(element.type === 'FLOAT' || element.type === 'DOUBLE' ? { encoding: 'PLAIN' as const } : {}),
        })),
      });
      return writer.getBytes();
    },
  };
};

const elementsOf = ({ value }: RecordGroup): readonly SchemaElement[] =>
  value.columns.map(({ name, schema }) => parquetElement(isStruct(value.schema) ? name : plainColumn, schema));
