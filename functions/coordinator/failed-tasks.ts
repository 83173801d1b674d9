import type { ConnectorState } from '../../shared/management/status.ts';

/** After so many failures in a row (n² + n minutes apart, so more than an hour) a restart is not what mends it. */
const manyFailures = 5;

/** Tasks that wait for an operator: what no restart mends, and what many did not. */
export const failedTasks = ({ row, tasks }: ConnectorState): readonly string[] =>
  row.target !== 'STARTED'
    ? []
    : tasks
        .filter(({ row: task }) => task.state === 'FAILED' && (!task.retriable || task.failures >= manyFailures))
        .map(({ task, row: { trace } }) => `${row.name} task ${task} has failed: ${trace ?? 'without a reason'}`);
