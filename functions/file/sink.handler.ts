import { sinkHandler } from '../../shared/lambda/handlers.ts';
import { fileSink } from './file-sink.ts';

export const handler = sinkHandler(fileSink);
