import { randomBytes } from 'node:crypto';
import { truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { memoryObjects, type ObjectStore } from '../../../shared/log/objects.ts';
import { s3Objects } from '../../../shared/s3/objects.ts';
import { type S3Fixture, startLocalS3, startMinistackS3 } from '../../kit/s3.ts';

/** What the log needs of the store of its bodies (invariant 3). */
const describeObjects = (name: string, open: () => Promise<ObjectStore>): void => {
  describe(name, () => {
    test('any range of an object is read as it was put', async () => {
      const store = await open();
      const bytes = randomBytes(100_000);
      await store.put('r14/orders/2026-01-01/a', bytes);
      await store.put('r14/orders/2026-01-01/empty', new Uint8Array(0));
      for (const [start, length] of [
        [0, bytes.length],
        [0, 1],
        [777, 50_000],
        [bytes.length - 1, 1],
        [5, 0],
      ] as const)
        expect(Buffer.from((await store.get('r14/orders/2026-01-01/a', start, length))!)).toEqual(
          bytes.subarray(start, start + length),
        );
      expect(await store.get('r14/orders/2026-01-01/a', bytes.length - 2, 9)).toHaveLength(2);
      expect(await store.get('r14/orders/2026-01-01/empty', 0, 9)).toHaveLength(0);
      expect(await store.get('r14/orders/2026-01-01/b', 0, 1)).toBeUndefined();
      expect(await store.get('r15/none', 0, 1)).toBeUndefined();
    });

    test('a name is written once, and the first bytes stay', async () => {
      const store = await open();
      await store.put('a/b', Buffer.from('first'));
      await expect(store.put('a/b', Buffer.from('second'))).rejects.toMatchObject({
        code: 'UNEXPECTED',
        retriable: false,
        message: 'object a/b exists: a name is used by one attempt only',
      });
      const many = await Promise.allSettled(Array.from({ length: 8 }, (_, i) => store.put('a/c', Buffer.from(`${i}`))));
      const winner = many.findIndex(({ status }) => status === 'fulfilled');
      expect(many.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      expect(Buffer.from((await store.get('a/b', 0, 9))!).toString()).toBe('first');
      expect(Buffer.from((await store.get('a/c', 0, 9))!).toString()).toBe(`${winner}`);
    });

    test('what is put is a copy', async () => {
      const store = await open();
      const bytes = Buffer.of(1);
      await store.put('a', bytes);
      bytes[0] = 2;
      expect(Buffer.from((await store.get('a', 0, 1))!)).toEqual(Buffer.of(1));
    });
  });
};

const onS3 = (start: () => Promise<S3Fixture>): (() => Promise<ObjectStore>) => {
  let fixture: S3Fixture;
  beforeAll(async () => {
    fixture = await start();
  });
  afterAll(() => fixture?.stop());
  return async () => s3Objects(fixture.s3, await fixture.newBucket());
};

describeObjects('in memory', async () => memoryObjects());
describeObjects('S3 of the local host', onS3(startLocalS3));
describeObjects('S3 of ministack', onS3(startMinistackS3));

test('an object that somebody cut is shorter than what is asked for', async () => {
  const local = await startLocalS3();
  try {
    const bucket = await local.newBucket();
    const store = s3Objects(local.s3, bucket);
    await store.put('a', Buffer.from('0123456789'));
    await truncate(join(local.root, bucket, 'a'), 4);
    expect(await store.get('a', 2, 8)).toHaveLength(2);
  } finally {
    await local.stop();
  }
});
