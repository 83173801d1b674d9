import { describeS3 } from '../../kit/describe-s3.ts';
import { startLocalS3, startMinistackS3 } from '../../kit/s3.ts';

describeS3('the S3 API of the local host', startLocalS3, { files: true });
describeS3('the S3 API of ministack', startMinistackS3, { files: false });
