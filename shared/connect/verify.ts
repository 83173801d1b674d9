import type { Column } from './batch.ts';
import type { Position } from './connector.ts';
import type { Schema } from './schema.ts';

/*
 * What a connector gives `sluice verify`: the rows of its tables as they are now. It compares nothing itself: rows of a source and of a
 * sink are compared by what both become in one canonical form (`shared/verify/`), whatever their types and collations are.
 */

/** A table as the source has it. */
export interface VerifiedTable {
  /** As the source's config names it. */
  readonly table: string;
  /** The topic that its rows go to. */
  readonly topic: string;
  /** Names of the key's columns; [] where it has none. */
  readonly key: readonly string[];
  /** The names in the `source` of its changes (`db`, `schema`, `table`): a sink may name tables by them. */
  readonly source?: { readonly [name: string]: string };
  /** What is told of a row. */
  readonly columns: readonly VerifiedColumn[];
  /** Where a deleted row is not told by itself: never, or by the end of a run that has not got it. */
  readonly deletes?: 'never' | 'with runs';
}

export interface VerifiedColumn {
  readonly name: string;
  /** The canonical type at the source. A sink may keep it as another one. */
  readonly type: Schema['type'];
}

/** The values of a key's columns, as texts; bytes as Latin-1. */
export type KeyTexts = readonly string[];

/** Rows as columns, in parts because they may lie in several pages of memory. Valid until the next call. */
export interface RowPart {
  readonly count: number;
  readonly columns: readonly Column[];
}

export interface RowPage {
  readonly parts: readonly RowPart[];
  /** Where the next page begins; absent: this was the last one. */
  readonly next?: KeyTexts;
}

/** Reads one table. Each call sees what is committed when it is made. */
export interface TableReader {
  /** The table's name, for people. */
  readonly table: string;
  /** Columns of the source's that this table lacks and, by its config, may lack. */
  readonly ignored: readonly string[];
  /** Of a sink: rows stay here that the source has no more, so that they are no difference. */
  readonly keeps: boolean;
  /** Rows behind a place, in the order of the table's own primary key. No more than fit a few megabytes. */
  page(after: KeyTexts | undefined): Promise<RowPage>;
  /** The rows of these keys, those that are there, in any order. Keys are in canonical texts, in the order of the source's key. */
  lookUp(keys: readonly KeyTexts[]): Promise<readonly RowPart[]>;
  /** Of a source: a place behind every row, or change of one, that is visible by now, as JSON. */
  position?(): Promise<unknown>;
}

/** `at_end`: its offsets do not say so, but a run that begins later and finds nothing more does. */
export type Passed = 'yes' | 'no' | 'at_end';

/** A connector's tables, opened for one invocation. */
export interface Verification {
  /** Of a source: those that it reads. */
  tables?(): Promise<readonly VerifiedTable[]>;
  /** Throws CONFIG_INVALID where the rows of this table can't be compared, NOT_FOUND where it isn't there. */
  open(table: VerifiedTable): Promise<TableReader>;
  /** Of a source: whether these offsets are at such a place or behind it. */
  hasPassed?(
    at: { readonly table: VerifiedTable; readonly position: unknown },
    offsets: readonly Position<unknown>[],
  ): Passed | Promise<Passed>;
  /** Of a source of changes: rows are read first, and may be sent again. */
  readonly ofChanges?: true;
  close(): Promise<void>;
}
