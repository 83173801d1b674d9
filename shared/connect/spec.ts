import * as z from 'zod';
import { type Delivery, deliveries, type Replay } from './connector.ts';
import { namePattern } from './name.ts';

export const Name = z.string().regex(namePattern, 'use letters, digits, ".", "_" and "-", at most 200');

/** Kafka Connect's `errors.*`, with units in the names. */
export const ErrorPolicy = z.strictObject({
  tolerance: z
    .enum(['none', 'all'])
    .default('none')
    .describe(
      'none: a record that can never be written fails the task; all: it goes to the dead letters and the rest goes on',
    ),
  retryTimeoutMs: z
    .number()
    .int()
    .min(0)
    .default(0)
    .describe('how long a retriable error is retried within one run; 0: not at all'),
  retryDelayMaxMs: z.number().int().min(1).default(60_000).describe('the longest wait between two tries'),
  deadLetterTopic: Name.optional().describe(
    'the topic that rejected records go to; without one they are only counted and logged',
  ),
});
export type ErrorPolicy = z.output<typeof ErrorPolicy>;

export const TopicSpec = z.strictObject({
  name: Name,
  queues: z.number().int().min(1).max(32).default(1).describe('ordered lanes; a key always goes to the same one'),
  retentionMs: z
    .number()
    .int()
    .min(60_000)
    .default(7 * 24 * 3_600_000)
    .describe('how long a record can be read'),
  capMs: z
    .number()
    .int()
    .min(0)
    .optional()
    .describe('how much longer what a reader has not read yet is kept; 30 days if left out'),
  maxBacklogBytes: z
    .number()
    .int()
    .min(1)
    .optional()
    .describe('bytes, uncompressed, that the slowest reader may leave unread before the sources of the topic are held'),
});
export type TopicSpec = z.output<typeof TopicSpec>;

export const connectorKinds = ['source', 'sink', 'direct', 'processor'] as const;
export type ConnectorKind = (typeof connectorKinds)[number];

/**
 * What a connector is: made by a construct, YAML or REST, kept in its CONFIG row, read at the start of every run. Secrets in it are
 * references (invariant 10).
 */
export const ConnectorSpec = z.strictObject({
  name: Name,
  kind: z.enum(connectorKinds),
  /** The plugin's type; a direct connector has its source's here and its sink's in `sinkPlugin`. A processor has none. */
  plugin: z.string().optional(),
  sinkPlugin: z.string().optional(),
  /** Name or ARN of its function. */
  functionName: z.string(),
  config: z.unknown().optional(),
  sinkConfig: z.unknown().optional(),
  /** Topics that it reads: a sink, a processor. */
  from: z.array(Name).optional(),
  /** Topics that it writes: a source, a processor. For a processor: one, all its records go there. */
  to: z.array(TopicSpec).optional(),
  /** The files of its transforms, in order, as status shows them: the transforms themselves are in its function. */
  transforms: z.array(z.string()).min(1).optional(),
  tasks: z.number().int().min(1).max(1000).default(1),
  errors: ErrorPolicy.default(() => ErrorPolicy.parse({})),
  delivery: z.enum(deliveries).optional(),
  /** How its runs start: `on data` (the dispatcher wakes it), `manual`, or a description of what does, as status shows it. */
  trigger: z.string(),
  /** A reader that the coordinator wakes when so much is unread, uncompressed, and so long after its last run at the latest. */
  backlog: z.strictObject({ bytes: z.number().int().min(1), atMostMs: z.number().int().min(60_000) }).optional(),
  /** Its runs last until their time ends, and chain: when nothing is new they wait for it. */
  continuous: z.literal(true).optional(),
  /** False: its upstream keeps what it has not read, and would fill up (change capture). It is never held; an alarm tells instead. */
  hold: z.boolean().optional(),
  /** Its source can tell how far behind it is: the coordinator has its function ask. */
  lag: z.literal(true).optional(),
  managedBy: z.enum(['deploy', 'rest']),
  maxRecords: z.number().int().min(1).default(20_000).describe('records of one batch'),
  maxBytes: z
    .number()
    .int()
    .min(1024)
    .default(8 * 1024 * 1024)
    .describe('bytes of one batch, uncompressed'),
});
export type ConnectorSpec = z.output<typeof ConnectorSpec>;

/** What a source's replay lets any sink reach: a record that comes again in another form can't be recognised. */
const bestOfReplay: Record<Replay, Delivery> = {
  exact: 'exactly-once',
  shifting: 'effectively-once',
  none: 'at-least-once',
};

/** delivery = min(source, sink) (DESIGN §3). */
export const pairDelivery = (replay: Replay, sink: Delivery): Delivery =>
  deliveries[Math.min(deliveries.indexOf(bestOfReplay[replay]), deliveries.indexOf(sink))]!;

/** Why a pair can't give the delivery that was asked for; undefined when it can. */
export const deliveryProblem = (asked: Delivery, replay: Replay, sink: Delivery): string | undefined => {
  const best = pairDelivery(replay, sink);
  if (deliveries.indexOf(asked) <= deliveries.indexOf(best)) return undefined;
  const weak = bestOfReplay[replay] === best ? `the source's replay is ${replay}` : `the sink gives ${sink}`;
  return `delivery ${asked} is not possible: ${weak}, so the pair gives ${best} at best; ask for ${best} or leave delivery out`;
};
