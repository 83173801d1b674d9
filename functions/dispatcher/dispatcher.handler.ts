import { readEnvironment } from '../../shared/lambda/environment.ts';
import { lambdaInvoker } from '../../shared/lambda/invoke.ts';
import { dispatch } from './dispatch.ts';

interface StreamEvent {
  readonly Records: readonly {
    readonly dynamodb: { readonly Keys: { readonly pk: { readonly S: string }; readonly sk: { readonly S: string } }; readonly SequenceNumber: string };
  }[];
}

const functions = lambdaInvoker();

export const handler = async (event: StreamEvent) => {
  const changes = event.Records.map(({ dynamodb: { Keys, SequenceNumber } }) => ({ pk: Keys.pk.S, sk: Keys.sk.S, sequenceNumber: SequenceNumber }));
  const failed = await dispatch(readEnvironment().table, functions, changes, Date.now());
  return { batchItemFailures: failed.map((itemIdentifier) => ({ itemIdentifier })) };
};
