/** An error of the S3 API, as clients know it by its code. */
export class S3Error extends Error {
  readonly code: string;
  readonly status: number;
  readonly headers: Record<string, string>;
  constructor(code: string, status: number, message: string, headers: Record<string, string> = {}) {
    super(message);
    this.code = code;
    this.status = status;
    this.headers = headers;
  }
}

export const noSuchKey = (): S3Error => new S3Error('NoSuchKey', 404, 'The specified key does not exist.');

export const noSuchUpload = (): S3Error =>
  new S3Error('NoSuchUpload', 404, 'The upload does not exist: it was completed or aborted, or never begun.');

export const preconditionFailed = (): S3Error =>
  new S3Error('PreconditionFailed', 412, 'At least one of the pre-conditions you specified did not hold');

export const notImplemented = (what: string): S3Error =>
  new S3Error('NotImplemented', 501, `the local host does not offer ${what}`);
