import { toConnectError } from '../../shared/connect/errors.ts';
import { ConnectorSpec } from '../../shared/connect/spec.ts';
import { readEnvironment } from '../../shared/lambda/environment.ts';
import { lambdaInvoker } from '../../shared/lambda/invoke.ts';
import { applyConnector, removeConnector } from '../../shared/management/apply.ts';
import { jsonLog } from '../../shared/observe/log.ts';

/** CloudFormation's custom resource request, as far as it is read. */
interface ResourceEvent {
  readonly RequestType: 'Create' | 'Update' | 'Delete';
  readonly ResponseURL: string;
  readonly StackId: string;
  readonly RequestId: string;
  readonly LogicalResourceId: string;
  readonly PhysicalResourceId?: string;
  readonly ResourceProperties: { readonly Spec: string };
}

const functions = lambdaInvoker();
const log = jsonLog({ function: 'deploy' });

/** Writes a connector's rows at deploy, and removes them before its function goes. */
export const handler = async (event: ResourceEvent): Promise<void> => {
  try {
    const spec = ConnectorSpec.parse(JSON.parse(event.ResourceProperties.Spec));
    const problems = await carryOut(event, spec);
    for (const problem of problems) log('warn', problem, { connector: spec.name });
    await answer(event, { Status: 'SUCCESS', PhysicalResourceId: spec.name, Data: { Problems: problems.join('\n') } });
  } catch (thrown) {
    const { code, message } = toConnectError(thrown);
    log('error', message, { code });
    await answer(event, {
      Status: 'FAILED',
      Reason: `${code}: ${message}`,
      PhysicalResourceId: event.PhysicalResourceId ?? event.LogicalResourceId,
    });
  }
};

const carryOut = async (event: ResourceEvent, spec: ConnectorSpec): Promise<readonly string[]> => {
  const { table } = readEnvironment();
  if (event.RequestType !== 'Delete') return (await applyConnector(table, functions, spec)).problems;
  // The resource's physical id is the connector's name: after a change of name CloudFormation deletes the old one by its id.
  return removeConnector(table, functions, event.PhysicalResourceId ?? spec.name);
};

const answer = async (event: ResourceEvent, result: object): Promise<void> => {
  const { StackId, RequestId, LogicalResourceId } = event;
  const response = await fetch(event.ResponseURL, {
    method: 'PUT',
    body: JSON.stringify({ StackId, RequestId, LogicalResourceId, ...result }),
  });
  if (!response.ok) throw new Error(`CloudFormation did not take the answer: ${response.status}`);
};
