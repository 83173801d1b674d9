import { sourceHandler } from '../../shared/lambda/handlers.ts';
import { mysqlCdcSource } from './cdc-source.ts';

export const handler = sourceHandler(mysqlCdcSource);
