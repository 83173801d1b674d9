import { PostgresSinkConfig } from '../../../functions/postgres/config.ts';
import { describeReadme } from '../../kit/describe-readme.ts';

describeReadme('postgres', PostgresSinkConfig);
