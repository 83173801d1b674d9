import { s3Place } from '../functions/file/path-config.ts';

/** A right that a connector's function needs of its system. */
export interface Right {
  readonly actions: readonly string[];
  readonly resources: readonly string[];
  readonly conditions?: { readonly [operator: string]: { readonly [key: string]: readonly string[] } };
}

/** Where the function is, for ARNs. */
export interface Place {
  readonly partition: string;
  readonly region: string;
  readonly account: string;
}

/** Its value is known only in the function, which has to be given the right by hand. */
const isReference = (text: string): boolean => text.replace(/\$\{Token\[[^\]]*\]\}/g, '').includes('${');

const bucketRights = (path: string, { partition }: Place, object: readonly string[], bucket: readonly string[]) => {
  const place = s3Place(path);
  if (place === undefined || isReference(path)) return [];
  const bucketArn = `arn:${partition}:s3:::${place.bucket}`;
  const rights: Right[] = [
    { actions: object, resources: [`${bucketArn}/${place.prefix}*`] },
    {
      actions: ['s3:ListBucket'],
      resources: [bucketArn],
      // Holds without a prefix, too: only who may list is told that an object is missing, and asking for one object names no prefix.
      conditions: { 'ForAllValues:StringLike': { 's3:prefix': [`${place.prefix}*`] } },
    },
  ];
  return bucket.length === 0 ? rights : [...rights, { actions: bucket, resources: [bucketArn] }];
};

/** To find and read the objects of a path; none for a path on this machine. */
export const readObjectsAt = (path: string, place: Place): readonly Right[] =>
  bucketRights(path, place, ['s3:GetObject'], []);

/** To write objects under a path in parts, and to look whether they are there; nothing there can be deleted. */
export const writeObjectsAt = (path: string, place: Place): readonly Right[] =>
  bucketRights(
    path,
    place,
    ['s3:PutObject', 's3:AbortMultipartUpload', 's3:GetObject'],
    ['s3:ListBucketMultipartUploads'],
  );

/**
 * To log in to Amazon RDS as a user. The host name does not say the id that the right is for, so it is for that user on any
 * database of the account and region.
 */
export const loginToRds = (user: string, { partition, region, account }: Place): readonly Right[] =>
  isReference(user)
    ? []
    : [{ actions: ['rds-db:connect'], resources: [`arn:${partition}:rds-db:${region}:${account}:dbuser:*/${user}`] }];
