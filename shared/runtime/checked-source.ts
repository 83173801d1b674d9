import type { Offsets, OpenContext, Partition, SourceConnector, SourceTask } from '../connect/connector.ts';
import { partitionKey } from '../connect/connector.ts';
import { ConnectError } from '../connect/errors.ts';

/** A source whose stored offsets are checked by its own schema before it sees them (invariant 11). */
export const openChecked = async (
  connector: SourceConnector,
  context: OpenContext<unknown>,
): Promise<SourceTask<unknown>> => {
  const task = await connector.open(context);
  const checked = (offsets: Offsets<unknown>) => checkedOffsets(connector, offsets);
  return {
    ...task,
    poll: (offsets, budget) => task.poll(checked(offsets), budget),
    ...(task.more === undefined ? {} : { more: (offsets) => task.more!(checked(offsets)) }),
  };
};

export const checkedOffsets = (connector: SourceConnector, offsets: Offsets<unknown>): Offsets<unknown> => {
  const parse = (partition: Partition, offset: unknown): unknown => {
    const parsed = connector.offset.safeParse(offset);
    if (parsed.success) return parsed.data;
    throw new ConnectError(
      'SHAPE_TOO_NEW',
      `the offset of ${partitionKey(partition)} is ${JSON.stringify(offset)}, which this release of ${connector.type} can't read (${parsed.error.issues[0]?.message}): deploy the release that wrote it, or \`sluice offsets reset\``,
    );
  };
  return {
    get(partition) {
      const offset = offsets.get(partition);
      return offset === undefined ? undefined : parse(partition, offset);
    },
    *all() {
      for (const { partition, offset } of offsets.all()) yield { partition, offset: parse(partition, offset) };
    },
  };
};
