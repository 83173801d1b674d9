import { sourceHandler } from '../../shared/lambda/handlers.ts';
import { postgresCdcSource } from './cdc-source.ts';

export const handler = sourceHandler(postgresCdcSource);
