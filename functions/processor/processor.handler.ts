import { processorHandler } from '../../shared/lambda/handlers.ts';

export const handler = processorHandler();
