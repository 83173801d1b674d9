import type * as z from 'zod';
import { isCode } from '../shared/connect/errors.ts';
import { Trigger } from './constructs/trigger.ts';
import type { SinkSection } from './pipeline-schema.ts';
import { parseDuration, parseSize } from './pipeline-units.ts';
import type { Problem } from './problems.ts';

/** The keys of a node that say what starts its runs. */
export type TriggerSection = Pick<z.output<typeof SinkSection>, 'every' | 'cron' | 'timeZone' | 'window' | 'trigger'>;

/** A node's trigger as the constructs take it; none where it says none. */
export const readTrigger = (
  section: TriggerSection,
): { readonly trigger: Trigger | undefined; readonly problems: readonly Problem[] } => {
  const problems: Problem[] = [];
  const at = <T>(path: readonly PropertyKey[], call: () => T, say = (message: string) => message): T | undefined => {
    try {
      return call();
    } catch (thrown) {
      if (!isCode(thrown, 'CONFIG_INVALID')) throw thrown;
      problems.push({ path, message: say(thrown.message.replace(/^trigger: /, '')) });
      return undefined;
    }
  };
  const { every, cron, trigger } = section;
  if (every !== undefined) {
    const say = () => `${every} is not possible, a schedule has whole minutes; give 1m or more`;
    return { trigger: at(['every'], () => Trigger.every(parseDuration(every)), say), problems };
  }
  if (cron !== undefined) {
    const timeZone = section.timeZone ?? 'UTC';
    const window = section.window === undefined ? {} : { window: parseDuration(section.window) };
    // One by one, so that each problem is told at its own line.
    const valid = '0 0 * * ? *';
    at(['timeZone'], () => Trigger.cron(valid, { timeZone }));
    at(['window'], () => Trigger.cron(valid, window));
    const read = at(['cron'], () => Trigger.cron(cron));
    return { trigger: problems.length > 0 ? read : Trigger.cron(cron, { timeZone, ...window }), problems };
  }
  return { trigger: trigger === undefined ? undefined : readEvents(trigger, at), problems };
};

type At = (path: readonly PropertyKey[], call: () => Trigger) => Trigger | undefined;

const readEvents = (trigger: NonNullable<TriggerSection['trigger']>, at: At): Trigger | undefined => {
  if (trigger === 'manual') return Trigger.manual();
  if (trigger === 'continuous') return Trigger.continuous();
  if ('sqs' in trigger) return at(['trigger', 'sqs'], () => Trigger.sqs(trigger.sqs));
  if ('backlog' in trigger) {
    const { bytes, atMost } = trigger.backlog;
    return at(['trigger', 'backlog'], () =>
      Trigger.backlog({ bytes: parseSize(bytes), atMost: parseDuration(atMost) }),
    );
  }
  const { s3, prefix, suffix } = trigger;
  const filter = { ...(prefix === undefined ? {} : { prefix }), ...(suffix === undefined ? {} : { suffix }) };
  return at(['trigger', 's3'], () => Trigger.s3(s3, filter));
};
