import { type Column, MISSING, type RecordGroup, type Side, VALUE } from '../connect/batch.ts';
import { ConnectError } from '../connect/errors.ts';
import { isStruct, type Schema } from '../connect/schema.ts';

/** What of a sink's config decides how records become rows. */
export interface RowsConfig {
  /** The template of table names. */
  readonly table: string;
  readonly mode?: 'insert' | 'upsert' | undefined;
  readonly keyFields?: readonly string[] | undefined;
  /** Whether a record without value deletes the row of its key. */
  readonly delete: boolean;
}

/** What a system cannot hold, whatever its tables are. */
export interface Limits {
  /** Why a name cannot be a column's; undefined where it can. */
  nameProblem(name: string): string | undefined;
  /** Why the system would change some value of this schema in silence instead of refusing it; undefined where it changes none. */
  silentChange(schema: Schema): Check | undefined;
}

/** Why the value of a row cannot be written as it is; undefined where it can. The row must hold a value. */
export type Check = (column: Column, row: number) => string | undefined;

/** The columns that have a check, with it. */
export const checksOf = (
  columns: readonly LaidColumn[],
  of: (column: LaidColumn) => Check | undefined,
): ReadonlyMap<LaidColumn, Check> =>
  new Map(
    columns.flatMap((column) => {
      const check = of(column);
      return check === undefined ? [] : [[column, check] as const];
    }),
  );

/** A column that records need. */
export interface WantedColumn {
  readonly name: string;
  readonly schema: Schema;
}

/** A column that is written, and where in a group its values are. */
export interface LaidColumn extends WantedColumn {
  readonly side: 'key' | 'value';
  readonly at: number;
}

/** How the records of a group become rows. */
export interface Layout {
  readonly mode: 'insert' | 'upsert';
  /** The template of the table's name, where it is made of what the records say of their source. */
  readonly table?: string;
  /** The key's columns first. */
  readonly columns: readonly LaidColumn[];
  /** Names of the primary key's columns; [] where rows are inserted. */
  readonly key: readonly string[];
  /** Columns whose stored values stay as they are: the others of a row that is there are updated, and no row is made. */
  readonly untold?: readonly string[];
  /** Fields whose name no column can have: a record that has one is refused. */
  readonly unnameable: readonly LaidColumn[];
  /** Why no record of the group can be written. */
  readonly problem?: string;
}

/** The column of a value that is no struct. */
const plainColumn = 'value';

export const sideOf = (group: RecordGroup, column: LaidColumn): Side =>
  column.side === 'key' ? group.key! : group.value;

export const dataOf = (group: RecordGroup, column: LaidColumn): Column => sideOf(group, column).columns[column.at]!;

export const layoutOf = (group: RecordGroup, config: RowsConfig, limits: Limits): Layout => {
  const mode = config.mode ?? (group.key === undefined && config.keyFields === undefined ? 'insert' : 'upsert');
  const values = allTombstones(group) ? [] : laidSide(group.value, 'value', plainColumn);
  const keys = group.key === undefined ? [] : laidSide(group.key, 'key', keyName(group, mode, config));
  if (mode === 'insert') {
    const columns = without(keys, values).concat(values);
    return {
      mode,
      key: [],
      ...named(columns, limits),
      ...(columns.length === 0 ? { problem: 'it has no fields' } : {}),
    };
  }
  const names = config.keyFields ?? keys.map(({ name }) => name);
  const found = names.map((name) => [...keys, ...values].find((column) => column.name === name));
  const missing = names.filter((_, i) => found[i] === undefined);
  const key = found.filter((column) => column !== undefined);
  const rest = without(keys, key).concat(without(values, keys));
  const problem = missing.length > 0 ? `it has no field ${missing.join(', ')}` : keyProblem(group, names, limits);
  const columns = named([...key, ...without(rest, key)], limits);
  return { mode, key: names, ...columns, ...(problem === undefined ? {} : { problem }) };
};

const keyProblem = (group: RecordGroup, names: readonly string[], { nameProblem }: Limits): string | undefined => {
  if (names.length === 0) return 'it has no key, and mode upsert needs one: set keyFields, or mode insert';
  if (names.includes(plainColumn) && !isStruct(group.value.schema)) return `its value needs the column ${plainColumn}`;
  return names.map(nameProblem).find((problem) => problem !== undefined);
};

/** The column of a key that is no struct; undefined where it has none. */
const keyName = (group: RecordGroup, mode: Layout['mode'], { keyFields }: RowsConfig): string | undefined => {
  if (isStruct(group.key!.schema) || keyFields?.length === 1 || mode === 'insert') return keyFields?.[0];
  const fields = keyFields ?? [];
  if (isStruct(group.value.schema) && fields.length > 0) return undefined;
  throw new ConnectError(
    'CONFIG_INVALID',
    `the keys of topic ${group.topic} are no structs and need a column's name: set keyFields to one name, or mode to insert`,
  );
};

/** The columns of a side; those of a side that is no struct only where it has a name. */
const laidSide = (side: Side, which: LaidColumn['side'], plainName: string | undefined): readonly LaidColumn[] => {
  const struct = isStruct(side.schema);
  if (!struct && plainName === undefined) return [];
  return side.columns.map(({ name, schema }, at) => ({ name: struct ? name : plainName!, schema, side: which, at }));
};

const without = (columns: readonly LaidColumn[], others: readonly LaidColumn[]): LaidColumn[] =>
  columns.filter(({ name }) => !others.some((other) => other.name === name));

const named = (columns: readonly LaidColumn[], { nameProblem }: Limits) => ({
  columns: columns.filter(({ name }) => nameProblem(name) === undefined),
  unnameable: columns.filter(({ name }) => nameProblem(name) !== undefined),
});

const allTombstones = ({ value }: RecordGroup) => value.nulls?.every((isNull) => isNull === 1) ?? false;

/** Which rows of a group are written; absent `rows`: all. The others are refused, but for tombstones that `delete: false` passes over. */
export interface Verdict {
  readonly rows?: Uint32Array;
  readonly refused: ReadonlyMap<number, string>;
}

export const judge = (group: RecordGroup, layout: Layout, config: RowsConfig, limits: Limits): Verdict => {
  const refused = new Map<number, string>();
  const refuse = (row: number, problem: string) => {
    if (!refused.has(row)) refused.set(row, problem);
  };
  const { nulls } = group.value;
  const passOver = layout.mode === 'upsert' && !config.delete ? nulls : undefined;
  if (layout.mode === 'insert' && nulls !== undefined)
    for (const [row, isNull] of nulls.entries())
      if (isNull === 1) refuse(row, 'a record without value deletes its key, which needs mode upsert');
  if (layout.problem !== undefined) for (let row = 0; row < group.count; row++) refuse(row, layout.problem);
  for (const column of layout.unnameable)
    forEachState(group, column, (row, state) => {
      if (state !== MISSING) refuse(row, `field "${column.name}": ${limits.nameProblem(column.name)}`);
    });
  for (const column of layout.columns) {
    const data = dataOf(group, column);
    if (layout.key.includes(column.name))
      forEachState(group, column, (row, state) => {
        if (state !== VALUE) refuse(row, `its key has no "${column.name}"`);
      });
    const check = limits.silentChange(data.schema);
    if (check !== undefined) forEachChange(group, column, check, refuse);
  }
  if (passOver !== undefined) for (const row of refused.keys()) if (passOver[row] === 1) refused.delete(row);
  if (refused.size === 0 && passOver === undefined) return { refused };
  const all = Uint32Array.from({ length: group.count }, (_, row) => row);
  return { refused, rows: all.filter((row) => !refused.has(row) && passOver?.[row] !== 1) };
};

/** The rows whose value would not be written as it is, and why. */
export const forEachChange = (
  group: RecordGroup,
  column: LaidColumn,
  check: Check,
  visit: (row: number, problem: string) => void,
): void => {
  const data = dataOf(group, column);
  forEachState(group, column, (row, state) => {
    const problem = state === VALUE ? check(data, row) : undefined;
    if (problem !== undefined) visit(row, `field "${column.name}": ${problem}`);
  });
};

/** Each row's state of a column: MISSING also where the whole key or value is null. */
const forEachState = (group: RecordGroup, column: LaidColumn, visit: (row: number, state: number) => void): void => {
  const { nulls } = sideOf(group, column);
  const { state } = dataOf(group, column);
  for (let row = 0; row < group.count; row++) visit(row, nulls?.[row] === 1 ? MISSING : (state?.[row] ?? VALUE));
};
