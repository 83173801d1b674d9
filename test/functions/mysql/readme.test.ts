import { MysqlSinkConfig } from '../../../functions/mysql/config.ts';
import { describeReadme } from '../../kit/describe-readme.ts';

describeReadme('mysql', MysqlSinkConfig);
