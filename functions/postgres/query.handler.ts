import { sourceHandler } from '../../shared/lambda/handlers.ts';
import { postgresQuerySource } from './query-source.ts';

export const handler = sourceHandler(postgresQuerySource);
