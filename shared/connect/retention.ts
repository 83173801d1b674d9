import type { TopicSpec } from './spec.ts';

const dayMs = 24 * 3_600_000;

export const defaultCapMs = 30 * dayMs;

/**
 * The classes of objects by the days that they are kept. Fixed, and so the bucket has all their rules from the start: whoever makes a
 * topic, in another app or at run time, has no part in the platform's stack.
 */
export const objectClasses = [10, 15, 20, 30, 45, 60, 90, 120, 180, 365, 730, 1825, 3650, 36_500] as const;

/**
 * The class of objects that hold records of such a topic: past all that a segment may point at them, and a week, so that a slow clock
 * or reader never meets a segment without its body. Writers name an object's class by it, the bucket's lifecycle ends the class.
 */
export const objectDays = ({ retentionMs, capMs = defaultCapMs }: Pick<TopicSpec, 'retentionMs' | 'capMs'>): number => {
  const days = Math.ceil((retentionMs + capMs) / dayMs) + 7;
  return objectClasses.find((one) => one >= days) ?? objectClasses.at(-1)!;
};
