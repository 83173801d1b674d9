import { isDeepStrictEqual } from 'node:util';
import { ConnectError } from '../../connect/errors.ts';
import { type Condition, type Item, itemBytes, type Key, keyOf, limits, type Table, type Write } from '../table.ts';

type Update = Extract<Write, { readonly update: Key }>;

/** A table in memory with the limits of the real one: for tests, and for the crash matrix, which needs to enumerate every operation. */
export const memoryTable = (): Table => {
  const partitions = new Map<string, Map<string, Item>>();
  const find = ({ pk, sk }: Key): Item | undefined => partitions.get(pk)?.get(sk);

  const store = (item: Item): void => {
    const partition = partitions.get(item.pk) ?? new Map<string, Item>();
    partitions.set(item.pk, partition.set(item.sk, structuredClone(item)));
  };

  const updated = ({ update: { pk, sk }, set }: Update): Item =>
    withoutUndefined({ ...find({ pk, sk }), pk, sk, ...set });

  const apply = (write: Write): void => {
    if ('put' in write) store(write.put);
    else if ('delete' in write) partitions.get(write.delete.pk)?.delete(write.delete.sk);
    else store(updated(write));
  };

  const copy = (item: Item | undefined): Item | undefined => (item === undefined ? undefined : structuredClone(item));

  return {
    get: async (key) => copy(find(key)),
    async getMany(keys) {
      if (keys.length > limits.writes)
        throw new ConnectError('TOO_LARGE', `getMany of ${keys.length} items, the limit is ${limits.writes}`);
      return keys.map((key) => copy(find(key)));
    },
    async query(pk, { from, to, limit = Number.POSITIVE_INFINITY, descending = false } = {}) {
      const items = [...(partitions.get(pk)?.values() ?? [])].filter(
        ({ sk }) => (from === undefined || byBytes(sk, from) >= 0) && (to === undefined || byBytes(sk, to) <= 0),
      );
      items.sort((a, b) => byBytes(a.sk, b.sk));
      if (descending) items.reverse();
      return items.slice(0, limit).map((item) => structuredClone(item));
    },
    async write(writes) {
      checkLimits(writes, updated);
      const failed = writes.flatMap((write, index) => {
        const found = find(keyOf(write));
        if (holds(write.when, found)) return [];
        return [{ index, ...(found === undefined ? {} : { found: structuredClone(found) }) }];
      });
      if (failed.length > 0) return { ok: false, failed };
      for (const write of writes) apply(write);
      return { ok: true };
    },
    async names(kind) {
      const items = [...partitions.values()].flatMap((partition) => [...partition.values()]);
      return items
        .filter((item) => item.kind === kind)
        .map((item) => String(item.name))
        .sort();
    },
  };
};

const withoutUndefined = (item: Record<string, unknown>): Item =>
  Object.fromEntries(Object.entries(item).filter(([, value]) => value !== undefined)) as Item;

const holds = (condition: Condition | undefined, found: Item | undefined): boolean => {
  if (condition === undefined) return true;
  if (condition === 'absent') return found === undefined;
  return found !== undefined && Object.entries(condition).every(([name, value]) => same(found[name], value));
};

/** Nested values and bytes are equal by what they hold; a clone turns a Buffer into a plain Uint8Array. */
const same = (a: unknown, b: unknown): boolean => a === b || isDeepStrictEqual(structuredClone(a), structuredClone(b));

/** DynamoDB sorts by UTF-8 bytes, which differs from JavaScript's order beyond the basic plane. */
const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

const checkLimits = (writes: readonly Write[], updated: (write: Update) => Item): void => {
  const keys = new Set(writes.map((write) => `${keyOf(write).pk}\0${keyOf(write).sk}`));
  if (keys.size !== writes.length) throw new ConnectError('UNEXPECTED', 'a transaction writes one item twice');
  if (writes.length > limits.writes)
    throw new ConnectError('TOO_LARGE', `a transaction has ${writes.length} writes, the limit is ${limits.writes}`);
  const sizes = writes.map((write) => {
    if ('put' in write) return itemBytes(write.put);
    if ('delete' in write) return itemBytes(write.delete as Item);
    return itemBytes(updated(write));
  });
  if (sizes.some((bytes) => bytes > limits.itemBytes))
    throw new ConnectError('TOO_LARGE', `an item has ${Math.max(...sizes)} bytes, the limit is ${limits.itemBytes}`);
  if (sizes.reduce((a, b) => a + b, 0) > limits.transactionBytes)
    throw new ConnectError('TOO_LARGE', `a transaction is over ${limits.transactionBytes} bytes`);
};
