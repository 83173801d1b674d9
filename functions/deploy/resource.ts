import { isDeepStrictEqual } from 'node:util';
import { ConnectError } from '../../shared/connect/errors.ts';
import type { ConnectorSpec } from '../../shared/connect/spec.ts';
import { type ApplyOptions, applyConnector, removeConnector } from '../../shared/management/apply.ts';
import type { InvokeFunction } from '../../shared/management/ports.ts';
import { changeTarget } from '../../shared/management/tasks.ts';
import { type ConnectorRow, readConnector, setTarget, specOf } from '../../shared/state/connectors.ts';
import { deployedKey } from '../../shared/state/keys.ts';
import { checkShape, shapes } from '../../shared/state/shape.ts';
import type { Table } from '../../shared/state/table.ts';

/** The stack's and the logical id: the construct path, in other words. */
export interface Resource {
  readonly stack: string;
  readonly id: string;
}

/**
 * Whose a connector is. A connector is its name: a construct that is renamed is another resource of CloudFormation, which makes the new
 * one before it deletes the old one, and the connector passes from one to the other. It goes back when the deploy does.
 */
interface Deployed {
  /** Undefined: nobody's. Its stack has let it go and left its offsets. */
  readonly owner?: string | undefined;
  /** What the last change replaced. */
  readonly before?: { readonly owner: string; readonly spec: ConnectorSpec } | undefined;
}

const ownerOf = ({ stack, id }: Resource): string => `${stack} ${id}`;

const readDeployed = async (table: Table, connector: string): Promise<Deployed | undefined> => {
  const item = await table.get(deployedKey(connector));
  if (item === undefined) return undefined;
  checkShape('deployed', item.v, `${item.pk} ${item.sk}`);
  return JSON.parse(String(item.deployed)) as Deployed;
};

const writeDeployed = async (table: Table, connector: string, deployed: Deployed): Promise<void> => {
  await table.write([{ put: { ...deployedKey(connector), v: shapes.deployed, deployed: JSON.stringify(deployed) } }]);
};

/** Creates or updates a resource's connector; what its check found and did not stop it is returned. */
export const putResource = async (
  table: Table,
  functions: InvokeFunction,
  resource: Resource,
  spec: ConnectorSpec,
  options: ApplyOptions,
): Promise<readonly string[]> => {
  const row = await readConnector(table, spec.name);
  const deployed = await readDeployed(table, spec.name);
  requireOurs(resource, row, deployed);
  const owner = ownerOf(resource);
  const replaced = row === undefined ? undefined : { owner: deployed?.owner ?? owner, spec: specOf(row) };
  // Going back must not fail: a rollback that does leaves the stack between two states.
  const isKnown = [replaced?.spec, deployed?.before?.spec].some((one) => isDeepStrictEqual(one, spec));
  await writeDeployed(table, spec.name, { owner, before: replaced });
  let problems: readonly string[];
  try {
    ({ problems } = await applyConnector(
      table,
      functions,
      spec,
      isKnown ? { ...options, check: 'reported' } : options,
    ));
  } catch (thrown) {
    const now = await readConnector(table, spec.name);
    // Where nothing has changed it is whose it was; else CloudFormation deletes or updates it next, and finds what there was before.
    if (now === undefined) await table.write([{ delete: deployedKey(spec.name) }]);
    else if (isDeepStrictEqual(specOf(now), replaced?.spec)) await writeDeployed(table, spec.name, deployed ?? {});
    throw thrown;
  }
  if (deployed !== undefined && deployed.owner === undefined) await changeTarget(table, functions, spec.name, 'resume');
  return problems;
};

const requireOurs = ({ stack }: Resource, row: ConnectorRow | undefined, deployed: Deployed | undefined): void => {
  const refuse = (why: string) => {
    throw new ConnectError('STATE_CONFLICT', why);
  };
  if (row !== undefined && row.managedBy !== 'deploy')
    refuse(
      `there is a connector ${row.name} already, which was not deployed: remove it, or give this one another name`,
    );
  const [other] = deployed?.owner?.split(' ') ?? [];
  if (row === undefined || other === undefined || other === stack) return;
  refuse(
    `connector ${row.name} belongs to the stack ${other}: give this one another name, or remove it there; with removalPolicy RETAIN on its pipeline this one goes on from its offsets`,
  );
};

/**
 * Removes a resource's connector; what its `deleted` could not remove upstream is returned. Does nothing where it has passed to another
 * resource; gives it back where this one had taken it and the deploy goes back.
 */
export const deleteResource = async (
  table: Table,
  functions: InvokeFunction,
  resource: Resource,
  connector: string,
  retain: boolean,
): Promise<readonly string[]> => {
  const owner = ownerOf(resource);
  const row = await readConnector(table, connector);
  const deployed = await readDeployed(table, connector);
  if (row !== undefined && row.managedBy !== 'deploy') return [];
  const { before } = deployed ?? {};
  if (deployed !== undefined && deployed.owner !== owner) {
    if (before?.owner === owner) await writeDeployed(table, connector, { owner: deployed.owner });
    return [];
  }
  if (before !== undefined && before.owner !== owner) {
    await writeDeployed(table, connector, { owner: before.owner });
    return (await applyConnector(table, functions, before.spec)).problems;
  }
  if (!retain || row === undefined) return removeConnector(table, functions, connector);
  await setTarget(table, connector, 'stop');
  await writeDeployed(table, connector, {});
  return [];
};
