import { userInfo } from 'node:os';
import * as z from 'zod';
import { ConnectError } from '../../shared/connect/errors.ts';
import { changeOffsets, getOffsets, resetOffsets } from '../../shared/management/offsets.ts';
import type { Answer } from './output.ts';
import { openPlatform, type Place } from './platform.ts';

const Change = z.strictObject({
  partition: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
  offset: z.unknown(),
});

export const showOffsets = async (place: Place, name: string): Promise<Answer> => {
  const platform = await openPlatform(place);
  try {
    const { offsets, reset, prepared } = await getOffsets(platform.table, name);
    const lines = offsets.map(({ key, offset, seq }) => `${key}  ${JSON.stringify(offset)}  commit ${seq}`);
    const pending =
      reset === undefined || (reset.all !== true && reset.offsets.length === 0)
        ? []
        : [
            `pending: ${reset.all === true ? 'everything starts over; ' : ''}${JSON.stringify(reset.offsets)}, carried out by the next run`,
          ];
    return {
      lines: lines.length + pending.length === 0 ? [`${name} has committed nothing yet`] : [...lines, ...pending],
      result: {
        offsets: offsets.map(({ partition, offset, seq }) => ({ partition, offset, seq })),
        pending: reset?.offsets ?? [],
        ...(reset?.all === true ? { pendingAll: true } : {}),
        prepared: prepared.length,
      },
    };
  } finally {
    await platform.close();
  }
};

export const setOffset = async (place: Place, name: string, partition: string, offset: string): Promise<Answer> => {
  const change = parseChange(partition, offset);
  const platform = await openPlatform(place);
  try {
    return changed(name, await changeOffsets(platform.table, name, [change], userInfo().username, Date.now()));
  } finally {
    await platform.close();
  }
};

export const resetAllOffsets = async (place: Place, name: string): Promise<Answer> => {
  const platform = await openPlatform(place);
  try {
    return changed(name, await resetOffsets(platform.table, name, userInfo().username, Date.now()));
  } finally {
    await platform.close();
  }
};

const changed = (name: string, how: 'changed' | 'pending'): Answer => ({
  lines: [
    how === 'changed'
      ? `${name}: offsets changed`
      : `${name}: the destination owns its offsets; the next run changes them there`,
  ],
  result: { name, how },
});

const parseChange = (partition: string, offset: string) => {
  try {
    const { partition: parsed, offset: value } = Change.parse({
      partition: JSON.parse(partition),
      offset: JSON.parse(offset),
    });
    return { partition: parsed, offset: value };
  } catch (cause) {
    throw new ConnectError(
      'CONFIG_INVALID',
      `expected a partition and an offset as JSON, as \`sluice offsets get\` shows them: ${(cause as Error).message}`,
      { cause },
    );
  }
};
