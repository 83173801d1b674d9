import { readEnvironment } from '../../shared/lambda/environment.ts';
import { lambdaInvoker } from '../../shared/lambda/invoke.ts';
import { jsonLog } from '../../shared/observe/log.ts';
import { sweep } from './sweep.ts';

const functions = lambdaInvoker();

export const handler = async (): Promise<void> => {
  await sweep(readEnvironment().table, functions, Date.now(), jsonLog({ function: 'coordinator' }));
};
