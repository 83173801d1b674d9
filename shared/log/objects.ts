import { ConnectError } from '../connect/errors.ts';

/** Write-once objects that segment bodies live in (invariant 3): a name is used by one attempt only, and a writer never deletes. */
export interface ObjectStore {
  /** Resolves when the bytes are durable. Throws when the name exists. */
  put(name: string, bytes: Uint8Array): Promise<void>;
  /** `length` bytes from `start`; undefined when there is no such object. */
  get(name: string, start: number, length: number): Promise<Uint8Array | undefined>;
}

export const memoryObjects = (): ObjectStore & { readonly stored: Map<string, Uint8Array> } => {
  const stored = new Map<string, Uint8Array>();
  return {
    stored,
    async put(name, bytes) {
      if (stored.has(name)) throw objectExists(name);
      stored.set(name, Uint8Array.from(bytes));
    },
    get: async (name, start, length) => stored.get(name)?.subarray(start, start + length),
  };
};

export const objectExists = (name: string, cause?: unknown): ConnectError =>
  new ConnectError('UNEXPECTED', `object ${name} exists: a name is used by one attempt only`, { cause });
