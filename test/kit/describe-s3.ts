import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { S3, S3Object } from '../../shared/s3/client.ts';
import type { S3Fixture } from './s3.ts';

export interface S3SuiteOptions {
  /** Objects are files: keys that no file can be named by are left out. */
  readonly files: boolean;
}

const MB = 1 << 20;

const pagesOf = async (list: ReturnType<S3['list']>): Promise<readonly (readonly S3Object[])[]> => {
  const pages: (readonly S3Object[])[] = [];
  for await (const page of list) pages.push(page);
  return pages;
};

/** What the project's S3 client promises, on a real S3 API. */
export const describeS3 = (name: string, start: () => Promise<S3Fixture>, { files }: S3SuiteOptions): void => {
  describe(name, () => {
    let fixture: S3Fixture;
    let s3: S3;
    beforeAll(async () => {
      fixture = await start();
      s3 = fixture.s3;
    });
    afterAll(() => fixture?.stop());

    const listed = async (bucket: string, prefix = '', after?: string): Promise<readonly S3Object[]> =>
      (await pagesOf(s3.list(bucket, prefix, after === undefined ? {} : { after }))).flat();

    test('an object is what was put, to all that ask for it', async () => {
      const bucket = await fixture.newBucket();
      const bytes = randomBytes(3 * MB + 7);
      const before = Date.now();
      expect(await s3.put(bucket, 'in/a.bin', bytes)).toBe(true);
      const got = (await s3.get(bucket, 'in/a.bin'))!;
      expect(Buffer.from(got.bytes).equals(bytes)).toBe(true);
      expect(got.size).toBe(bytes.length);
      expect(got.etag).toMatch(/^[\da-f-]+$/);
      const head = (await s3.head(bucket, 'in/a.bin'))!;
      expect(head).toMatchObject({ key: 'in/a.bin', size: bytes.length, etag: got.etag });
      expect(head.modifiedMs).toBeGreaterThan(before - 2_000);
      expect(head.modifiedMs).toBeLessThan(Date.now() + 2_000);
      expect(await listed(bucket)).toEqual([{ ...head, modifiedMs: expect.any(Number) }]);

      await s3.put(bucket, 'empty', new Uint8Array(0));
      expect(await s3.get(bucket, 'empty')).toMatchObject({ bytes: Buffer.alloc(0), size: 0 });
      expect(await s3.get(bucket, 'empty', { start: 0, length: 5 })).toMatchObject({ size: 0 });
    });

    test('any range of an object', async () => {
      const bucket = await fixture.newBucket();
      const bytes = randomBytes(1_000);
      await s3.put(bucket, 'a', bytes);
      const at = fc.integer({ min: 0, max: 1_100 });
      await fc.assert(
        fc.asyncProperty(at, fc.option(at, { nil: undefined }), async (start, length) => {
          const got = await s3.get(bucket, 'a', { start, ...(length === undefined ? {} : { length }) });
          const end = length === undefined ? bytes.length : start + length;
          expect(Buffer.from(got!.bytes)).toEqual(bytes.subarray(start, end));
          expect(got!.size).toBe(1_000);
          expect(got!.etag).not.toBe('');
        }),
        { numRuns: 60 },
      );
    });

    test('what is not there is undefined, and may be deleted', async () => {
      const bucket = await fixture.newBucket();
      expect(await s3.get(bucket, 'none')).toBeUndefined();
      expect(await s3.get(bucket, 'none', { start: 1, length: 2 })).toBeUndefined();
      expect(await s3.get(bucket, 'none', { length: 0 })).toBeUndefined();
      expect(await s3.head(bucket, 'none')).toBeUndefined();
      await s3.delete(bucket, 'none');
      await s3.put(bucket, 'a', Buffer.of(1));
      await s3.delete(bucket, 'a');
      expect(await s3.get(bucket, 'a')).toBeUndefined();
      expect(await listed(bucket)).toEqual([]);
    });

    test('a bucket that is not there is an error that names it', async () => {
      const missing = 'no-such-bucket';
      const calls: readonly Promise<unknown>[] = [
        s3.get(missing, 'a'),
        s3.put(missing, 'a', Buffer.of(1)),
        s3.delete(missing, 'a'),
        s3.createUpload(missing, 'a'),
        s3.listUploads(missing, ''),
        listed(missing),
      ];
      for (const call of await Promise.allSettled(calls))
        expect(call).toMatchObject({
          reason: { code: 'NOT_FOUND', retriable: false, message: expect.stringContaining(missing) },
        });
    });

    test('a key that must be absent is written once, by one of many', async () => {
      const bucket = await fixture.newBucket();
      expect(await s3.put(bucket, 'a', Buffer.from('first'), { ifAbsent: true })).toBe(true);
      expect(await s3.put(bucket, 'a', Buffer.from('second'), { ifAbsent: true })).toBe(false);
      const puts = Array.from({ length: 8 }, (_, i) => s3.put(bucket, 'b', Buffer.from(`${i}`), { ifAbsent: true }));
      const won = await Promise.all(puts);
      expect(won.filter(Boolean)).toHaveLength(1);
      expect(Buffer.from((await s3.get(bucket, 'b'))!.bytes).toString()).toBe(`${won.indexOf(true)}`);
      expect(Buffer.from((await s3.get(bucket, 'a'))!.bytes).toString()).toBe('first');
    });

    test('an object that was replaced is not the one of its old etag', async () => {
      const bucket = await fixture.newBucket();
      await s3.put(bucket, 'a', Buffer.from('old'));
      const { etag } = (await s3.head(bucket, 'a'))!;
      expect(await s3.get(bucket, 'a', { start: 1, length: 1, ifMatch: etag })).toMatchObject({ etag });
      await s3.put(bucket, 'a', Buffer.from('new'));
      for (const range of [{}, { start: 1 }, { start: 9 }, { length: 0 }])
        await expect(s3.get(bucket, 'a', { ...range, ifMatch: etag })).rejects.toMatchObject({
          code: 'LOST_POSITION',
          message: expect.stringContaining(`s3://${bucket}/a changed`),
        });
      expect((await s3.head(bucket, 'a'))!.etag).not.toBe(etag);
    });

    test('a list is in the order of bytes, under a prefix, after a key, over many pages', async () => {
      const bucket = await fixture.newBucket();
      const keys = Array.from({ length: 1_050 }, (_, i) => `in/${String(i).padStart(5, '0')}`);
      const queue = [...keys, 'in', 'in!', 'in/a/b', 'other', 'in/\u{ff61}', 'in/\u{1f600}'];
      // A file can't be the directory of others.
      const all = queue.filter((key) => !(files && key === 'in'));
      const rest = [...all];
      const worker = async () => {
        for (let key = rest.pop(); key !== undefined; key = rest.pop()) await s3.put(bucket, key, Buffer.of(1));
      };
      await Promise.all(Array.from({ length: 8 }, worker));
      const sorted = [...all].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      expect((await listed(bucket)).map(({ key }) => key)).toEqual(sorted);
      const under = sorted.filter((key) => key.startsWith('in/'));
      expect((await listed(bucket, 'in/')).map(({ key }) => key)).toEqual(under);
      expect((await listed(bucket, 'in/010', 'in/01044')).map(({ key }) => key)).toEqual(keys.slice(1_045));
      expect(await listed(bucket, 'none/')).toEqual([]);
      const pages = await pagesOf(s3.list(bucket, 'in/'));
      expect(pages.map((page) => page.length)).toEqual([1_000, under.length - 1_000]);
    });

    test('any key', async () => {
      const bucket = await fixture.newBucket();
      const part = fc.oneof(
        fc.string({ unit: 'binary', minLength: 1, maxLength: 12 }),
        fc.string({
          unit: fc.constantFrom(...` +%&<>"'!*();:@=,$?#[]~.-_\\^\`{|}aä日😀\n\r\t`),
          minLength: 1,
          maxLength: 12,
        }),
      );
      const odd = fc.constantFrom('', '.', '..', 'a//b', '/a', 'a/');
      const isOfFiles = (key: string) =>
        key.split('/').every((one) => !['', '.', '..'].includes(one) && !one.includes('\0'));
      const key = fc
        .array(files ? part : fc.oneof({ weight: 9, arbitrary: part }, { weight: 1, arbitrary: odd }), {
          minLength: 1,
          maxLength: 3,
        })
        .map((parts) => parts.join('/'))
        .filter((text) => text !== '' && text.isWellFormed() && (files ? isOfFiles(text) : !text.includes('\0')));
      await fc.assert(
        fc.asyncProperty(key, async (text) => {
          const bytes = Buffer.from(text);
          expect(await s3.put(bucket, text, bytes)).toBe(true);
          expect((await s3.get(bucket, text))!.bytes).toEqual(bytes);
          expect((await s3.head(bucket, text))!.size).toBe(bytes.length);
          expect((await listed(bucket, text)).map((one) => one.key)).toEqual([text]);
          await s3.delete(bucket, text);
          expect(await s3.get(bucket, text)).toBeUndefined();
        }),
        { numRuns: 150 },
      );
    });

    test('a key is free again once nothing is under it', async () => {
      const bucket = await fixture.newBucket();
      await s3.put(bucket, 'a/b/c', Buffer.from('c'));
      await s3.delete(bucket, 'a/b/c');
      expect(await s3.put(bucket, 'a', Buffer.from('a'), { ifAbsent: true })).toBe(true);
      expect((await listed(bucket, '')).map((one) => one.key)).toEqual(['a']);
    });

    test('an upload in parts is an object when it is completed', async () => {
      const bucket = await fixture.newBucket();
      const parts = [randomBytes(5 * MB), randomBytes(5 * MB), randomBytes(3)];
      const uploadId = await s3.createUpload(bucket, 'lake/a b.parquet');
      const upload = async (partNumber: number, bytes: Uint8Array) => ({
        partNumber,
        etag: await s3.uploadPart(bucket, 'lake/a b.parquet', uploadId, partNumber, bytes),
      });
      const last = await upload(3, parts[2]!);
      await upload(1, randomBytes(5 * MB));
      const [first, second] = await Promise.all([upload(1, parts[0]!), upload(2, parts[1]!)]);
      expect(await s3.get(bucket, 'lake/a b.parquet')).toBeUndefined();
      expect(await listed(bucket)).toEqual([]);
      expect(await s3.listUploads(bucket, 'lake/')).toEqual([
        { key: 'lake/a b.parquet', uploadId, startedMs: expect.any(Number) },
      ]);
      expect(await s3.listUploads(bucket, 'other')).toEqual([]);
      expect(await s3.completeUpload(bucket, 'lake/a b.parquet', uploadId, [first, second, last])).toBe(true);
      const got = (await s3.get(bucket, 'lake/a b.parquet'))!;
      expect(Buffer.from(got.bytes).equals(Buffer.concat(parts))).toBe(true);
      expect(await listed(bucket)).toMatchObject([{ key: 'lake/a b.parquet', etag: got.etag }]);
      expect(await s3.listUploads(bucket, '')).toEqual([]);
    });

    test('an upload that was aborted, or never begun, can not be completed', async () => {
      const bucket = await fixture.newBucket();
      const uploadId = await s3.createUpload(bucket, 'a');
      const etag = await s3.uploadPart(bucket, 'a', uploadId, 1, Buffer.of(1));
      await expect(
        s3.completeUpload(bucket, 'a', uploadId, [{ partNumber: 1, etag: 'f'.repeat(32) }]),
      ).rejects.toMatchObject({ code: 'UNEXPECTED', message: expect.stringContaining('InvalidPart') });
      await s3.abortUpload(bucket, 'a', uploadId);
      await s3.abortUpload(bucket, 'a', uploadId);
      expect(await s3.completeUpload(bucket, 'a', uploadId, [{ partNumber: 1, etag }])).toBe(false);
      expect(await s3.listUploads(bucket, '')).toEqual([]);
      expect(await s3.get(bucket, 'a')).toBeUndefined();
    });

    test('an aborted signal ends a call with its reason', async () => {
      const bucket = await fixture.newBucket();
      const signal = AbortSignal.abort(new Error('the budget is used up'));
      await expect(s3.put(bucket, 'a', Buffer.of(1), { signal })).rejects.toThrow('the budget is used up');
      await expect(pagesOf(s3.list(bucket, '', { signal }))).rejects.toThrow('the budget is used up');
      expect(await s3.get(bucket, 'a')).toBeUndefined();
    });
  });
};
