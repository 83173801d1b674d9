import { sinkHandler } from '../../shared/lambda/handlers.ts';
import { postgresSink } from './sink.ts';

export const handler = sinkHandler(postgresSink);
