import { escapeXml } from '../../shared/s3/xml.ts';
import type { S3Error } from './s3-error.ts';
import type { StoredObject } from './s3-store.ts';
import type { Part, Upload } from './s3-uploads.ts';

/** An element's content by name; a list is the element repeated, and what is undefined is left out. */
interface Content {
  readonly [name: string]: string | number | boolean | undefined | Content | readonly Content[];
}

const write = (content: Content): string =>
  Object.entries(content)
    .flatMap(([name, value]) => (Array.isArray(value) ? value : [value]).map((one) => [name, one] as const))
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `<${name}>${typeof value === 'object' ? write(value) : escapeXml(String(value))}</${name}>`)
    .join('');

export const toXml = (root: string, content: Content): Buffer =>
  Buffer.from(
    `<?xml version="1.0" encoding="UTF-8"?>\n<${root}${root === 'Error' ? '' : ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'}>${write(content)}</${root}>`,
  );

export const errorXml = ({ code, message }: S3Error, resource: string, requestId: string): Buffer =>
  toXml('Error', { Code: code, Message: message, Resource: resource, RequestId: requestId });

/** With `encoding-type=url` a key is written so; XML can't hold all that a key can. */
export const urlEncoded = (key: string): string =>
  encodeURIComponent(key).replaceAll('%2F', '/').replaceAll('%20', '+');

export const timeText = (ms: number): string => new Date(Math.trunc(ms)).toISOString();

export interface Listing {
  readonly bucket: string;
  readonly prefix: string;
  readonly delimiter: string;
  readonly maxKeys: number;
  readonly encodingType: string | undefined;
  readonly objects: readonly StoredObject[];
  readonly commonPrefixes: readonly string[];
  /** From where the next page goes on. */
  readonly next: string | undefined;
}

export const listingXml = (listing: Listing): Buffer => {
  const { bucket, prefix, delimiter, maxKeys, encodingType, objects, commonPrefixes, next } = listing;
  const inXml = (key: string): string => (encodingType === 'url' ? urlEncoded(key) : key);
  return toXml('ListBucketResult', {
    Name: bucket,
    Prefix: inXml(prefix),
    Delimiter: delimiter === '' ? undefined : inXml(delimiter),
    MaxKeys: maxKeys,
    EncodingType: encodingType,
    KeyCount: objects.length + commonPrefixes.length,
    IsTruncated: next !== undefined,
    NextContinuationToken: next === undefined ? undefined : Buffer.from(next).toString('base64url'),
    Contents: objects.map(({ key, size, etag, modifiedMs }) => ({
      Key: inXml(key),
      // S3 knows whole seconds.
      LastModified: timeText(modifiedMs - (modifiedMs % 1_000)),
      ETag: `"${etag}"`,
      Size: size,
      StorageClass: 'STANDARD',
    })),
    CommonPrefixes: commonPrefixes.map((one) => ({ Prefix: inXml(one) })),
  });
};

export const uploadsXml = (bucket: string, encodingType: string | undefined, uploads: readonly Upload[]): Buffer =>
  toXml('ListMultipartUploadsResult', {
    Bucket: bucket,
    EncodingType: encodingType,
    IsTruncated: false,
    Upload: uploads.map(({ key, uploadId, startedMs }) => ({
      Key: encodingType === 'url' ? urlEncoded(key) : key,
      UploadId: uploadId,
      Initiated: timeText(startedMs),
    })),
  });

export const partsXml = (upload: Pick<Upload, 'bucket' | 'key' | 'uploadId'>, parts: readonly Part[]): Buffer =>
  toXml('ListPartsResult', {
    Bucket: upload.bucket,
    Key: upload.key,
    UploadId: upload.uploadId,
    IsTruncated: false,
    Part: parts.map(({ partNumber, etag, size }) => ({ PartNumber: partNumber, ETag: `"${etag}"`, Size: size })),
  });
