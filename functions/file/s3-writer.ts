import { createHash, randomUUID } from 'node:crypto';
import type { S3 } from '../../shared/s3/client.ts';
import { parseS3 } from './path-config.ts';
import type { FileWriter } from './store.ts';
import { inParallel, type StagedFile } from './two-phase.ts';

/** S3 takes no smaller ones than 5 MB, but for the last. */
const partBytes = 8 * 1024 * 1024;
/** Four hours less than a day, after which a rule of the bucket for incomplete uploads can have removed one. */
const trustedAgeMs = 20 * 3_600_000;
const sweepEveryMs = 86_400_000;

/** When this process last looked for orphans, by root and task: a request that is seldom of use. */
const sweptAtMs = new Map<string, number>();

/**
 * Stages as a multipart upload under the final key, which nobody sees before it is completed: that promotes it. Uploads are listed by
 * key only, so the key says whose an upload is: by a hash of `own` beside what is unique to the attempt.
 */
export const s3Writer = (s3: S3, root: string, own: string): FileWriter => {
  const { bucket, key: prefix } = parseS3(root)!;
  const mine = createHash('sha256').update(own).digest('hex').slice(0, 8);
  const keyOf = ({ final }: { readonly final: string }) => `${prefix}${final}`;

  const uploadAll = async (key: string, upload: string, bytes: Uint8Array, signal: AbortSignal) => {
    const parts: string[] = [];
    let areDigests = true;
    for (let at = 0; at === 0 || at < bytes.length; at += partBytes) {
      const part = bytes.subarray(at, at + partBytes);
      const etag = await s3.uploadPart(bucket, key, upload, parts.length + 1, part, { signal });
      areDigests &&= etag === md5(part);
      parts.push(etag);
    }
    return { parts, ...(areDigests ? { md5: md5(bytes) } : {}) };
  };

  return {
    trustedAgeMs,
    width: 8,
    markOf: (id) => `${mine}${id.slice(0, 8)}`,
    async stage({ final }, bytes, signal) {
      const key = keyOf({ final });
      const upload = await s3.createUpload(bucket, key, { signal });
      try {
        return { upload, final, bytes: bytes.length, ...(await uploadAll(key, upload, bytes, signal)) };
      } catch (error) {
        // A failure here must not hide the one that led here; what stays is invisible and swept later.
        await s3.abortUpload(bucket, key, upload).catch(() => {});
        throw error;
      }
    },
    async inspect(file) {
      const upload = asUpload(file);
      const found = await s3.head(bucket, keyOf(file));
      if (found === undefined) return 'nothing';
      return found.size === upload.bytes && isEtagOf(found.etag, upload) ? 'the file' : 'another';
    },
    promote(file) {
      const { upload, parts } = asUpload(file);
      const numbered = parts.map((etag, index) => ({ partNumber: index + 1, etag }));
      return s3.completeUpload(bucket, keyOf(file), upload, numbered);
    },
    discard: (file) => s3.abortUpload(bucket, keyOf(file), asUpload(file).upload),
    async sweep(olderThanMs) {
      const now = Date.now();
      const place = `${own} ${root}`;
      if (now - (sweptAtMs.get(place) ?? 0) < sweepEveryMs) return;
      const isMine = new RegExp(`-\\d+-${mine}[0-9a-f]{8}[-.][^/]*$`);
      const uploads = await s3.listUploads(bucket, prefix);
      const old = uploads.filter(({ key, startedMs }) => isMine.test(key) && now - startedMs > olderThanMs);
      await inParallel(old, 8, ({ key, uploadId }) => s3.abortUpload(bucket, key, uploadId));
      sweptAtMs.set(place, now);
    },
    async check(signal) {
      const key = `${prefix}.sluice-check-${randomUUID()}`;
      const tried = await Promise.allSettled([
        s3.createUpload(bucket, key, { signal }).then((upload) => s3.abortUpload(bucket, key, upload, { signal })),
        s3.listUploads(bucket, key, { signal }),
        s3.head(bucket, key, { signal }),
      ]);
      // A bucket that is not there is one problem, not three.
      return [...new Set(tried.flatMap((one) => (one.status === 'rejected' ? [(one.reason as Error).message] : [])))];
    },
  };
};

type Upload = Extract<StagedFile, { upload: string }>;

/** Other rows come from a store of another kind, whose root this is not. */
const asUpload = (file: StagedFile): Upload => file as Upload;

const md5 = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('hex');

/** S3 makes an ETag of those of the parts, or of all bytes once the object was copied. Where encryption hides them, the name is all there is. */
const isEtagOf = (etag: string, { parts, md5: whole }: Upload): boolean => {
  const ofParts = createHash('md5')
    .update(Buffer.from(parts.join(''), 'hex'))
    .digest('hex');
  return whole === undefined || etag === whole || etag === `${ofParts}-${parts.length}`;
};
