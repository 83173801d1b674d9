import { sinkHandler } from '../../shared/lambda/handlers.ts';
import { mysqlSink } from './sink.ts';

export const handler = sinkHandler(mysqlSink);
