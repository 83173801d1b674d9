/**
 * The one store of state and log: a table of items under (pk, sk), with conditional writes and transactions. DynamoDB's model,
 * cut down to what the invariants need: every read is strongly consistent, every condition is an equality, so each
 * implementation is short and the memory one is exact.
 */
export type Attribute =
  | string
  | number
  | boolean
  | Uint8Array
  | { readonly [name: string]: Attribute }
  | readonly Attribute[];

export interface Key {
  readonly pk: string;
  readonly sk: string;
}

export type Item = Key & { readonly [name: string]: Attribute };

/** `absent`: no such item. Otherwise the item exists and each named attribute equals the value; undefined: it has no such attribute. */
export type Condition = 'absent' | { readonly [name: string]: Attribute | undefined };

export type Write =
  | { readonly put: Item; readonly when?: Condition }
  /** Sets attributes of an item, and makes it where it is missing and `when` allows; undefined removes an attribute. */
  | {
      readonly update: Key;
      readonly set: { readonly [name: string]: Attribute | undefined };
      readonly when?: Condition;
    }
  | { readonly delete: Key; readonly when?: Condition };

/** A write whose condition did not hold, and the item that was found instead. */
export interface FailedWrite {
  /** Its index in the transaction. */
  readonly index: number;
  readonly found?: Item;
}

/** Either all writes happened, or none did and `failed` names those whose conditions did not hold. */
export type WriteResult = { readonly ok: true } | { readonly ok: false; readonly failed: readonly FailedWrite[] };

export interface Query {
  /** Inclusive bounds of sk. */
  readonly from?: string;
  readonly to?: string;
  readonly limit?: number;
  readonly descending?: boolean;
}

/** The kinds of rows that an index lists by name. */
export type Kind = 'connector' | 'topic';

/**
 * Reads see every write that ended before them. A write that throws may have happened (a lost answer): callers tell by what they
 * wrote (`writeId`, `owner`). Throws UNAVAILABLE (retriable) when the store does not answer, TOO_LARGE over a limit.
 */
export interface Table {
  get(key: Key): Promise<Item | undefined>;
  /** In the order of the keys; at most `limits.reads` of them. */
  getMany(keys: readonly Key[]): Promise<readonly (Item | undefined)[]>;
  /** Items of one pk in the order of sk. */
  query(pk: string, query?: Query): Promise<readonly Item[]>;
  /** At most 100 writes on different items, 4 MB together. */
  write(writes: readonly Write[]): Promise<WriteResult>;
  /** The names of all rows whose `kind` attribute is this one. Eventually consistent: never decide anything by it. */
  names(kind: Kind): Promise<readonly string[]>;
}

export const limits = { reads: 100, writes: 100, transactionBytes: 4 * 1024 * 1024, itemBytes: 400 * 1024 } as const;

export const keyOf = (write: Write): Key =>
  'put' in write ? write.put : 'update' in write ? write.update : write.delete;

/** The size of an item as DynamoDB counts it, near enough for its limits. */
export const itemBytes = (value: Attribute | Item): number => {
  if (typeof value === 'string') return Buffer.byteLength(value);
  if (typeof value === 'number') return 9;
  if (typeof value === 'boolean') return 1;
  if (value instanceof Uint8Array) return value.length;
  if (Array.isArray(value)) return value.reduce<number>((sum, item) => sum + 1 + itemBytes(item as Attribute), 3);
  return Object.entries(value).reduce((sum, [name, inner]) => sum + Buffer.byteLength(name) + itemBytes(inner), 3);
};
