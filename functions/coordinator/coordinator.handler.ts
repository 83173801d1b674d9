import { readEnvironment, takeUsed } from '../../shared/lambda/environment.ts';
import { lambdaInvoker } from '../../shared/lambda/invoke.ts';
import { jsonLog } from '../../shared/observe/log.ts';
import { sweep } from './sweep.ts';

const functions = lambdaInvoker();
const log = jsonLog({ function: 'coordinator' });

export const handler = async (): Promise<void> => {
  await sweep(readEnvironment().table, functions, Date.now(), log);
  log('debug', 'units', takeUsed());
};
