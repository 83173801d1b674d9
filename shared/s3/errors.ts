import { ConnectError } from '../connect/errors.ts';
import { textOf } from './xml.ts';

/** What a request was for, in IAM's words. */
export interface Purpose {
  readonly action: string;
  readonly bucket: string;
  readonly key?: string;
}

export interface FailedAnswer {
  readonly status: number;
  readonly headers: { readonly [name: string]: string | readonly string[] | undefined };
  readonly body: Uint8Array;
}

/** S3's name for the error. HEAD answers without a body: then only the status tells. */
export const codeOf = ({ status, body }: FailedAnswer): string =>
  textOf(Buffer.from(body).toString(), 'Code') ?? `status ${status}`;

export const messageOf = ({ body }: FailedAnswer): string => textOf(Buffer.from(body).toString(), 'Message') ?? '';

const badCredentials = /^(InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|TokenRefreshRequired)$/;

/** An answer that another try would not change, as an error that names what to change. */
export const answerError = (answer: FailedAnswer, { action, bucket, key }: Purpose, region: string): ConnectError => {
  const xml = Buffer.from(answer.body).toString();
  const code = codeOf(answer);
  const message = messageOf(answer);
  const partition = region.startsWith('cn-') ? 'aws-cn' : region.startsWith('us-gov-') ? 'aws-us-gov' : 'aws';
  const bucketArn = `arn:${partition}:s3:::${bucket}`;
  const bucketRegion = String(answer.headers['x-amz-bucket-region'] ?? textOf(xml, 'Region') ?? '');
  const what = `${action} on ${key === undefined ? bucketArn : `${bucketArn}/${key}`}`;
  if (code === 'NoSuchBucket')
    return new ConnectError('NOT_FOUND', `the bucket ${bucket} does not exist: create it or correct its name`);
  if (bucketRegion !== '' && bucketRegion !== region)
    return new ConnectError(
      'CONFIG_INVALID',
      `the bucket ${bucket} is in ${bucketRegion}, but this runs in ${region}: use a bucket in ${region}, or run in ${bucketRegion}`,
    );
  if (answer.status === 301 || answer.status === 307)
    return new ConnectError('CONFIG_INVALID', `the bucket ${bucket} is not in ${region}: ${code}: ${message}`);
  if (badCredentials.test(code) || code === 'RequestTimeTooSkewed')
    return new ConnectError('CONFIG_INVALID', `S3 did not accept the credentials for ${what}: ${code}: ${message}`);
  if (answer.status === 403)
    return new ConnectError(
      'ACCESS_DENIED',
      `S3 denied ${what} (${code}): allow it in the role of the function.${key === undefined ? '' : ` Without s3:ListBucket on ${bucketArn}, S3 answers the same for an object that does not exist.`}`,
    );
  if (code === 'EntityTooLarge' || code === 'KeyTooLongError')
    return new ConnectError('TOO_LARGE', `${what}: ${code}: ${message}`);
  return new ConnectError('UNEXPECTED', `${what}: S3 answered ${answer.status}: ${code}: ${message}`);
};
