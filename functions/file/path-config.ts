/** Where a file connector reads or writes on S3. */
export interface S3Place {
  readonly bucket: string;
  /** What every key begins with: of a glob, what stands before its first wildcard. */
  readonly prefix: string;
}

const wildcard = /[*?[{]/;

/** With plain letters, as many, for what is known only later: a token of the CDK (`${Token[TOKEN.1]}`), a reference to a secret. */
const masked = (text: string): string => text.replace(/\$\{[^}]*\}/g, (value) => 'x'.repeat(value.length));

/** The bucket and the key, prefix or glob of an `s3://` URL; undefined for a local path. */
export const parseS3 = (path: string): { readonly bucket: string; readonly key: string } | undefined => {
  if (!path.startsWith('s3://')) return undefined;
  const slash = masked(path).indexOf('/', 5);
  return slash === -1
    ? { bucket: path.slice(5), key: '' }
    : { bucket: path.slice(5, slash), key: path.slice(slash + 1) };
};

/** What rights on S3 a `path` needs, for whoever grants them; undefined for a local path. Tokens of the CDK pass through it. */
export const s3Place = (path: string): S3Place | undefined => {
  const parsed = parseS3(path);
  if (parsed === undefined) return undefined;
  const first = masked(parsed.key).search(wildcard);
  return { bucket: parsed.bucket, prefix: first === -1 ? parsed.key : parsed.key.slice(0, first) };
};

export const isGlob = (path: string): boolean => wildcard.test(masked(path));

/** Whether it names any number of files: a glob, or all that is below a directory or a prefix. */
export const isMany = (path: string): boolean => isGlob(path) || path.endsWith('/');

/** The last name in a path without its extensions, made a legal topic name; '' where it has none that is known now. */
export const topicOf = (path: string): string => {
  const names = (parseS3(path)?.key ?? path).replace(/[/\\]+$/, '');
  const name = names.slice(masked(names).search(/[^/\\]*$/));
  if (masked(name) !== name) return '';
  return name
    .replace(/(?<=.)(\.[A-Za-z][A-Za-z0-9]*)+$/, '')
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .slice(0, 200);
};

/** What S3 takes as the name of a bucket. */
export const bucketPattern = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;

/** What is wrong with a path, whatever it is for. */
export const pathProblem = (path: string): string | undefined => {
  const [, scheme] = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(path) ?? [];
  if (scheme === undefined) return /^s3:/i.test(path) ? `write s3://bucket/prefix/ instead of ${path}` : undefined;
  if (scheme !== 's3') return `${scheme}:// is no place that is known here; give a local path or s3://bucket/prefix/`;
  const { bucket, key } = parseS3(path)!;
  if (masked(bucket) === bucket && !bucketPattern.test(bucket))
    return `${JSON.stringify(bucket)} is no name of a bucket: 3 to 63 of the characters a-z 0-9 . -`;
  if (key === '' && !path.endsWith('/')) return `write ${path}/ for everything in the bucket`;
  return key.startsWith('/') ? `the key of ${path} begins with a slash; leave it out` : undefined;
};
