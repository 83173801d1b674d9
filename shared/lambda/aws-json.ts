import { defaultProvider } from '@aws-sdk/credential-provider-node';
import { Sha256 } from '@smithy/core/checksum';
import { SignatureV4 } from '@smithy/signature-v4';
import { backoffMs, delay } from '../connect/backoff.ts';
import { ConnectError } from '../connect/errors.ts';
import { domainOf } from '../s3/address.ts';
import { exchange, isNetworkError } from '../s3/exchange.ts';

export interface AwsCall {
  /** As in its host name and its signature. */
  readonly service: 'secretsmanager' | 'ssm';
  /** The operation with its protocol's prefix. */
  readonly target: string;
  /** @default - AWS_REGION */
  readonly region?: string | undefined;
  readonly body: object;
  /** The standard variable that names another endpoint. */
  readonly endpointVariable: string;
}

/** What the service says of a call that it refused. */
export class AwsError extends Error {
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

const tries = 3;
/** Nobody answers so where a VPC has no way to the service. */
const timeoutMs = 5_000;

/** One call of a service of AWS that speaks JSON. Tried again while the service is busy; throws AwsError, or UNAVAILABLE. */
export const callAws = async (call: AwsCall): Promise<Readonly<Record<string, unknown>>> => {
  for (let attempt = 1; ; attempt++) {
    let reason: string;
    try {
      const { status, body } = await post(call);
      if (status === 200) return body;
      const code = String(body.__type ?? status).replace(/^.*#/, '');
      const message = String(body.message ?? body.Message ?? '');
      if (status < 500 && status !== 429 && !/Throttling|TooManyRequests/.test(code)) throw new AwsError(code, message);
      reason = `${code}: ${message}`;
    } catch (thrown) {
      if (thrown instanceof AwsError || !isNetworkError(thrown)) throw thrown;
      reason = thrown.message;
    }
    if (attempt === tries)
      throw new ConnectError(
        'UNAVAILABLE',
        `${call.service} did not answer ${call.target} in ${tries} tries: ${reason}; in a VPC it needs an interface endpoint or a NAT gateway`,
        { retriable: true },
      );
    await delay(backoffMs(attempt, 100, 1_000));
  }
};

const post = async (call: AwsCall) => {
  const { service, target, region = process.env.AWS_REGION, endpointVariable } = call;
  if (region === undefined) throw new ConnectError('CONFIG_INVALID', 'the environment variable AWS_REGION is not set');
  const endpoint = process.env[endpointVariable] || process.env.AWS_ENDPOINT_URL;
  const url = new URL(endpoint || `https://${service}.${region}.${domainOf(region)}`);
  const body = JSON.stringify(call.body);
  const signer = new SignatureV4({ service, region, credentials: defaultProvider(), sha256: Sha256 });
  const { headers } = await signer.sign({
    method: 'POST',
    protocol: url.protocol,
    hostname: url.hostname,
    path: '/',
    headers: {
      host: url.host,
      'content-type': 'application/x-amz-json-1.1',
      'content-length': String(Buffer.byteLength(body)),
      'x-amz-target': target,
    },
    body,
  });
  const answer = await exchange({ method: 'POST', url, path: '/', headers, body, timeoutMs });
  return { status: answer.status, body: parsed(answer.body.toString()) };
};

/** A proxy on the way may answer with anything. */
const parsed = (text: string): Readonly<Record<string, unknown>> => {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return { message: text.slice(0, 200) };
  }
};
