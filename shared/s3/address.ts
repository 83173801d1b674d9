import { ConnectError } from '../connect/errors.ts';

export interface Address {
  readonly protocol: 'http:' | 'https:';
  /** With the port where it is not the protocol's. */
  readonly host: string;
  /** Encoded, as it is signed and sent. */
  readonly path: string;
}

/** As RFC 3986 has it, which is what S3 signs: `/` stays in a key, everything else that could have a meaning does not. */
export const encode = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);

/**
 * Where a bucket and a key are: the bucket is in the host's name on AWS; in the path at an endpoint of one's own, and where no
 * certificate would fit the host's name. Throws CONFIG_INVALID.
 */
export const addressOf = (
  { bucket, key }: { readonly bucket: string; readonly key?: string },
  region: string,
  endpoint: string | undefined,
): Address => {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$/.test(bucket))
    throw new ConnectError('CONFIG_INVALID', `${JSON.stringify(bucket)} is not the name of a bucket`);
  if (key === '' || key?.isWellFormed() === false)
    throw new ConnectError('CONFIG_INVALID', `${JSON.stringify(key)} is not a key: it is empty or not Unicode`);
  const ofKey = (key ?? '').split('/').map(encode).join('/');
  const url = new URL(endpoint ?? `https://s3.${region}.${domainOf(region)}`);
  const protocol = url.protocol === 'http:' ? ('http:' as const) : ('https:' as const);
  if (endpoint === undefined && /^[a-z0-9-]+$/.test(bucket))
    return { protocol, host: `${bucket}.${url.host}`, path: `/${ofKey}` };
  return { protocol, host: url.host, path: `${url.pathname.replace(/\/$/, '')}/${bucket}/${ofKey}` };
};

export const domainOf = (region: string): string => {
  if (region.startsWith('cn-')) return 'amazonaws.com.cn';
  return region.startsWith('eusc-') ? 'amazonaws.eu' : 'amazonaws.com';
};
