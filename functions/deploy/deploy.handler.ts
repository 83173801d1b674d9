import { ConnectError, toConnectError } from '../../shared/connect/errors.ts';
import { ConnectorSpec } from '../../shared/connect/spec.ts';
import { readEnvironment } from '../../shared/lambda/environment.ts';
import { lambdaInvoker } from '../../shared/lambda/invoke.ts';
import { jsonLog } from '../../shared/observe/log.ts';
import { deleteResource, putResource } from './resource.ts';

/** CloudFormation's custom resource request, as far as it is read. */
interface ResourceEvent {
  readonly RequestType: 'Create' | 'Update' | 'Delete';
  readonly ResponseURL: string;
  readonly StackId: string;
  readonly RequestId: string;
  readonly LogicalResourceId: string;
  /** The connector's name; after a change of it CloudFormation deletes the old one by this. */
  readonly PhysicalResourceId?: string;
  readonly ResourceProperties: {
    readonly Spec: string;
    /** What becomes of problems that its check finds. */
    readonly Check?: 'required' | 'reported';
    /** `true`: its offsets stay when it leaves the stack. */
    readonly Retain?: string;
  };
}

/** An answer has at most 4 KB, as JSON. */
const maxReasonBytes = 3_000;
/** On the local host a right holds at once. */
const retryAfterMs = process.env.SLUICE_LOCAL === '1' ? [] : [2_000, 5_000, 10_000];

const functions = lambdaInvoker();
const log = jsonLog({ function: 'deploy' });

/** Writes a connector's rows at deploy, and removes them before its function goes. */
export const handler = async (event: ResourceEvent): Promise<void> => {
  const { name } = JSON.parse(event.ResourceProperties.Spec) as { name: string };
  // Also of what could not be created: CloudFormation deletes it next, and its owner says whether there is anything to delete.
  const { PhysicalResourceId = name } = event;
  try {
    const done = await carryOut(event, PhysicalResourceId);
    for (const problem of done.problems) log('warn', problem, { connector: done.name });
    await answer(event, { Status: 'SUCCESS', PhysicalResourceId: done.name });
  } catch (thrown) {
    const { code, message } = toConnectError(thrown);
    log('error', message, { code, connector: name });
    await answer(event, { Status: 'FAILED', PhysicalResourceId, Reason: shortened(`${code}: ${message}`) });
  }
};

const carryOut = async (
  { RequestType, StackId, LogicalResourceId, ResourceProperties }: ResourceEvent,
  physicalId: string,
): Promise<{ readonly name: string; readonly problems: readonly string[] }> => {
  const { Spec, Check = 'reported', Retain } = ResourceProperties;
  const { table } = readEnvironment();
  const resource = { stack: StackId, id: LogicalResourceId };
  if (RequestType === 'Delete') {
    const problems = await deleteResource(table, functions, resource, physicalId, Retain === 'true');
    return { name: physicalId, problems };
  }
  const spec = readSpec(Spec);
  const problems = await putResource(table, functions, resource, spec, { check: Check, retryAfterMs });
  return { name: spec.name, problems };
};

/** An app may be of a newer release than the platform that it finds by name. */
const readSpec = (text: string): ConnectorSpec => {
  const { data, error } = ConnectorSpec.safeParse(JSON.parse(text));
  if (data !== undefined) return data;
  const problems = error!.issues.map(({ path, message }) => [...path.map(String), message].join(': '));
  throw new ConnectError(
    'CONFIG_INVALID',
    `the platform is of another release than the app, and does not know what it says of this connector (${problems.join('; ')}): deploy the platform's stack with the app's release first`,
  );
};

const shortened = (text: string): string => {
  let short = text;
  while (Buffer.byteLength(JSON.stringify(short)) > maxReasonBytes)
    short = short.slice(0, Math.floor(short.length * 0.9));
  return short;
};

const answer = async (event: ResourceEvent, result: object): Promise<void> => {
  const { StackId, RequestId, LogicalResourceId } = event;
  const response = await fetch(event.ResponseURL, {
    method: 'PUT',
    body: JSON.stringify({ StackId, RequestId, LogicalResourceId, ...result }),
  });
  if (!response.ok) throw new Error(`CloudFormation did not take the answer: ${response.status}`);
};
