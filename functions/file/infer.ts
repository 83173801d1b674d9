import { type BytesColumn, type RecordGroup, VALUE } from '../../shared/connect/batch.ts';
import type { Partition, Position } from '../../shared/connect/connector.ts';
import { textReader } from '../../shared/connect/record.ts';
import type { FieldTypeText } from './field-type.ts';
import { fileSource } from './file-source.ts';
import { createSeen, decideType, type Seen, see } from './infer-type.ts';
import type { FileFormat, FileOffset } from './source-config.ts';

export interface InferOptions {
  readonly format?: FileFormat;
  readonly delimiter?: string;
  readonly header?: true | readonly string[];
  readonly null?: string;
}

export interface Inferred {
  /** For the config's `fields`. */
  readonly fields: Readonly<Record<string, FieldTypeText>>;
  /** Where the values of a field disagree, and lines that are no records. */
  readonly notes: readonly string[];
}

/**
 * The narrowest type that all values of each field fit, from ALL rows of the files: a type guessed from the first rows fails at the
 * first row that differs. Streams: memory holds one batch.
 */
export const inferSchema = async (
  path: string,
  options: InferOptions = {},
  signal: AbortSignal = new AbortController().signal,
): Promise<Inferred> => {
  const config = fileSource.config.parse({ path, topic: 'infer', ...options });
  const self = { connector: 'infer', incarnation: '', deployment: '', taskId: 0, tasks: 1 };
  const task = await fileSource.open({ ...self, config, signal });
  const stands = new Map<unknown, Position<FileOffset>>();
  const offsets = { get: ({ file }: Partition) => stands.get(file)?.offset, all: () => stands.values() };
  const fields = new Map<string, Seen>();
  const notes: string[] = [];
  let rows = 0;
  try {
    for (let caughtUp = false; !caughtUp; ) {
      signal.throwIfAborted();
      const poll = await task.poll(offsets, { maxRecords: 20_000, maxBytes: 4 * 1024 * 1024, signal });
      for (const group of poll.batch.groups) {
        rows += seeGroup(fields, group);
      }
      for (const { error } of poll.rejected ?? []) notes.push(error.message);
      for (const position of poll.offsets) stands.set(position.partition.file, position);
      ({ caughtUp } = poll);
    }
  } finally {
    await task.close();
  }
  const decided = [...fields].map(([name, seen]) => ({ name, ...decideType(name, seen, rows) }));
  return {
    fields: Object.fromEntries(decided.map(({ name, type }) => [name, type])),
    notes: [...decided.flatMap((one) => one.notes), ...notes],
  };
};

/** Adds a group's values to what was seen, and gives its rows; records that are no objects have no fields and are left out. */
const seeGroup = (fields: Map<string, Seen>, { value, count }: RecordGroup): number => {
  if (value.schema.type !== 'struct') return 0;
  for (const column of value.columns as readonly BytesColumn[]) {
    const seen = fields.get(column.name) ?? createSeen();
    fields.set(column.name, seen);
    const isJson = column.schema.type === 'any';
    const text = textReader(column);
    for (let row = 0; row < count; row++)
      if (column.state === undefined || column.state[row] === VALUE) see(seen, text(row), isJson);
  }
  return count;
};
