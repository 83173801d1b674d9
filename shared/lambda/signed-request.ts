import { defaultProvider } from '@aws-sdk/credential-provider-node';
import { Sha256 } from '@smithy/core/checksum';
import { SignatureV4 } from '@smithy/signature-v4';
import { ConnectError } from '../connect/errors.ts';
import { domainOf } from '../s3/address.ts';
import { type Answer, exchange } from '../s3/exchange.ts';

/** Where a service of AWS is, and who asks it. */
export interface ServiceAccess {
  /** @default - the service's own in the region */
  readonly endpoint?: string | undefined;
  /** @default - AWS_REGION */
  readonly region?: string | undefined;
  /** @default - those of the function's role */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string };
}

export interface SignedRequest extends ServiceAccess {
  /** As in its host name and its signature. */
  readonly service: 'lambda' | 'secretsmanager' | 'ssm';
  readonly path: string;
  readonly headers: { readonly [name: string]: string };
  readonly body: string;
  /** Silence after which it is given up. */
  readonly timeoutMs: number;
}

/** One POST to a service of AWS: an SDK client would add 40 to 100 KB to each function, and the time to start them. */
export const postSigned = async (request: SignedRequest): Promise<Answer> => {
  const { service, path, body, timeoutMs, region = process.env.AWS_REGION, credentials = defaultProvider() } = request;
  if (region === undefined) throw new ConnectError('CONFIG_INVALID', 'the environment variable AWS_REGION is not set');
  const url = new URL(request.endpoint ?? `https://${service}.${region}.${domainOf(region)}`);
  const signer = new SignatureV4({ service, region, credentials, sha256: Sha256 });
  const { headers } = await signer.sign({
    method: 'POST',
    protocol: url.protocol,
    hostname: url.hostname,
    path,
    headers: { ...request.headers, host: url.host, 'content-length': String(Buffer.byteLength(body)) },
    body,
  });
  return exchange({ method: 'POST', url, path, headers, body, timeoutMs });
};
