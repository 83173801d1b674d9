import { createHash } from 'node:crypto';
import type { Key } from './table.ts';

/**
 * Every key of the table. `#` ends a name in each, and no name holds one, so that an IAM pattern on a leading key can't match a
 * longer name. Pinned by a test (invariant 11): a change needs a reader for the old form.
 */
export const connectorPk = (connector: string): string => `connector#${connector}`;
export const topicPk = (topic: string): string => `topic#${topic}`;
export const logPk = (topic: string, generation: number, queue: number): string =>
  `log#${topic}#${generation}#${queue}`;

export const configKey = (connector: string): Key => ({ pk: connectorPk(connector), sk: 'CONFIG' });
export const taskPrefix = 'TASK#';
export const taskKey = (connector: string, task: number): Key => ({
  pk: connectorPk(connector),
  sk: `${taskPrefix}${task}`,
});
/** Touching it wakes the task: the stream carries it to the dispatcher. */
export const wakeKey = (connector: string, task: number): Key => ({ pk: connectorPk(connector), sk: `WAKE#${task}` });

/** Offsets, prepared rows, resets and the lag of an incarnation are neighbours, so that one query reads all four. */
export const offsetPrefix = (incarnation: string): string => `AT#${incarnation}#`;
export const offsetKey = (connector: string, incarnation: string, partition: string): Key => ({
  pk: connectorPk(connector),
  sk: `${offsetPrefix(incarnation)}OFFSET#${shortened(partition)}`,
});
export const preparedKey = (connector: string, incarnation: string, task: number, id: string): Key => ({
  pk: connectorPk(connector),
  sk: `${offsetPrefix(incarnation)}PREPARED#${task}#${id}`,
});
export const resetKey = (connector: string, incarnation: string): Key => ({
  pk: connectorPk(connector),
  sk: `${offsetPrefix(incarnation)}RESET`,
});

export const lagKey = (connector: string, incarnation: string): Key => ({
  pk: connectorPk(connector),
  sk: `${offsetPrefix(incarnation)}LAG`,
});

export const historyPrefix = 'HISTORY#';
export const historyKey = (connector: string, slot: string): Key => ({
  pk: connectorPk(connector),
  sk: `${historyPrefix}${slot}`,
});

export const metaKey = (topic: string): Key => ({ pk: topicPk(topic), sk: 'META' });
export const subscriptionPrefix = 'SUB#';
export const subscriptionKey = (topic: string, connector: string): Key => ({
  pk: topicPk(topic),
  sk: `${subscriptionPrefix}${connector}`,
});

/** Which resource of CloudFormation a connector is. */
export const deployedKey = (connector: string): Key => ({ pk: connectorPk(connector), sk: 'DEPLOYED' });

/** How far the coordinator has kept what is unread of a queue. */
export const keptKey = (topic: string, generation: number, queue: number): Key => ({
  pk: topicPk(topic),
  sk: `KEPT#${generation}#${queue}`,
});

export const headKey = (topic: string, generation: number, queue: number): Key => ({
  pk: logPk(topic, generation, queue),
  sk: 'HEAD',
});
/** 20 digits, so that segments sort by base and before HEAD. */
export const segmentSk = (base: number): string => String(base).padStart(20, '0');
export const segmentKey = (topic: string, generation: number, queue: number, base: number): Key => ({
  pk: logPk(topic, generation, queue),
  sk: segmentSk(base),
});

/** A sort key holds 1,024 bytes: a longer partition is named by its hash (the item holds it whole). */
const shortened = (partition: string): string =>
  Buffer.byteLength(partition) <= 512 ? partition : `sha256:${createHash('sha256').update(partition).digest('hex')}`;
