import { sourceHandler } from '../../shared/lambda/handlers.ts';
import { fileSource } from './file-source.ts';

export const handler = sourceHandler(fileSource);
