import { sourceHandler } from '../../shared/lambda/handlers.ts';
import { mysqlQuerySource } from './query-source.ts';

export const handler = sourceHandler(mysqlQuerySource);
