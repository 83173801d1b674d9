import { readEnvironment, takeUsed } from '../../shared/lambda/environment.ts';
import { lambdaInvoker } from '../../shared/lambda/invoke.ts';
import { jsonLog } from '../../shared/observe/log.ts';
import { dispatch } from './dispatch.ts';

interface StreamEvent {
  readonly Records: readonly {
    readonly dynamodb: {
      readonly Keys: { readonly pk: { readonly S: string }; readonly sk: { readonly S: string } };
      readonly SequenceNumber: string;
    };
  }[];
}

const functions = lambdaInvoker();
const log = jsonLog({ function: 'dispatcher' });

export const handler = async (event: StreamEvent) => {
  const changes = event.Records.map(({ dynamodb: { Keys, SequenceNumber } }) => ({
    pk: Keys.pk.S,
    sk: Keys.sk.S,
    sequenceNumber: SequenceNumber,
  }));
  const failed = await dispatch(readEnvironment().table, functions, changes, Date.now());
  log('debug', 'units', takeUsed());
  return { batchItemFailures: failed.map((itemIdentifier) => ({ itemIdentifier })) };
};
