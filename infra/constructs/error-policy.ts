import type { Problem } from '../problems.ts';
import type { ConnectorOptions } from './pipeline-props.ts';

/** A connector's `errors` as its spec has them. */
export const errorPolicy = (connector: string, { errors = {}, deadLetter = false }: ConnectorOptions) => {
  const problems: Problem[] = [];
  if (deadLetter && errors.tolerance === 'none')
    problems.push({
      path: ['errors', 'tolerance'],
      message: 'none never writes a dead letter; leave it out, or deadLetter',
    });
  if (deadLetter && errors.deadLetterTopic !== undefined)
    problems.push({
      path: ['errors', 'deadLetterTopic'],
      message: `deadLetter means ${connector}.dlq; give one of both`,
    });
  const policy = {
    tolerance: errors.tolerance ?? (deadLetter ? 'all' : undefined),
    retryTimeoutMs: errors.retryTimeout?.toMilliseconds(),
    retryDelayMaxMs: errors.retryDelayMax?.toMilliseconds(),
    deadLetterTopic: deadLetter ? `${connector}.dlq` : errors.deadLetterTopic,
  };
  return { policy, problems };
};
