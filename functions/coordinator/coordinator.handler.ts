import { ConnectError } from '../../shared/connect/errors.ts';
import { readEnvironment, takeUsed } from '../../shared/lambda/environment.ts';
import { lambdaInvoker } from '../../shared/lambda/invoke.ts';
import { jsonLog } from '../../shared/observe/log.ts';
import { endFailedRun, type FailedRun } from './failed-run.ts';
import { sweep } from './sweep.ts';

const functions = lambdaInvoker();
const log = jsonLog({ function: 'coordinator' });

/** Its schedule invokes it every minute, Lambda with every event that a connector's function died of. */
export const handler = async (event: FailedRun | { readonly reason: 'sweep' }): Promise<void> => {
  const { table, eventual } = readEnvironment();
  const alarms =
    'requestContext' in event
      ? await endFailedRun(table, event, Date.now(), log).then(() => [])
      : await sweep(table, functions, Date.now(), log, eventual);
  log('debug', 'units', takeUsed());
  // The platform's alarm looks at failed invocations: all is done by now, and nothing is tried again.
  if (alarms.length > 0) throw new ConnectError('NEEDS_OPERATOR', alarms.join('\n'));
};
