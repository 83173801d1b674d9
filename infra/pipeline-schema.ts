import * as z from 'zod';
import { deliveries } from '../shared/connect/connector.ts';
import { ErrorPolicy, Name, TopicSpec } from '../shared/connect/spec.ts';

/** The form of a pipeline file: what the constructs take, as YAML. What it means is checked by `pipeline-file.ts`. */
const duration = z
  .string()
  .regex(/^\d+(ms|s|m|h|d)$/, 'expected a duration such as 500ms, 30s, 5m, 2h or 7d')
  .meta({ examples: ['1m', '2h', '7d'] });

const size = z
  .string()
  .regex(/^\d+(B|KiB|MiB|GiB|TiB)$/, 'expected a size such as 512KiB, 64MiB or 10GiB')
  .meta({ examples: ['64MiB', '10GiB'] });

const described = (schema: z.ZodType): string => schema.description ?? '';

const Topic = z.strictObject({
  queues: TopicSpec.shape.queues
    .unwrap()
    .optional()
    .describe(`${described(TopicSpec.shape.queues)}; 1 if left out`),
  retention: duration.optional().describe(`${described(TopicSpec.shape.retentionMs)}; 7d if left out`),
  maxBacklog: size
    .optional()
    .describe(
      'what its slowest reader may leave unread, uncompressed, before the sources that write it are held; no limit if left out',
    ),
});

const Errors = z.strictObject({
  tolerance: ErrorPolicy.shape.tolerance.unwrap().optional().describe(described(ErrorPolicy.shape.tolerance)),
  retryTimeout: duration.optional().describe('how long a retriable error is retried within one run'),
  retryDelayMax: duration.optional().describe('the longest wait between two tries; 1m if left out'),
  deadLetterTopic: Name.optional().describe(described(ErrorPolicy.shape.deadLetterTopic)),
});

const options = {
  tasks: z.int().min(1).max(1000).optional().describe('tasks that run at the same time; 1 if left out'),
  errors: Errors.optional().describe('what becomes of records that fail'),
  deadLetter: z.boolean().optional().describe('true: rejected records go to the topic <connector>.dlq'),
  maxRecords: z.int().min(1).optional().describe('records of one batch; 20000 if left out'),
  maxBytes: z.int().min(1024).optional().describe('bytes of one batch, uncompressed; 8 MB if left out'),
  memoryMb: z.int().min(128).max(10_240).optional().describe('memory of its function; 512 if left out'),
  timeout: duration.optional().describe('how long one run may take; 2m if left out, 15m at most'),
  transforms: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe(
      'files in TypeScript or JavaScript, relative to this one, or names of transforms that come with Sluice (unwrap, to-canal-json, from-canal-json), that records go through in this order',
    ),
};

const words = z
  .enum(['manual', 'continuous'])
  .describe('manual: an operator starts its runs; continuous: one run after the other, each until its time ends');
const objects = z.strictObject({
  s3: z.string().describe('a bucket: a run when an object has been written; once an hour besides'),
  prefix: z.string().optional().describe('only objects whose key begins with this'),
  suffix: z.string().optional().describe('only objects whose key ends with this'),
});
const messages = z.strictObject({
  sqs: z.string().describe('the ARN of a queue: a run when a message has come; once an hour besides'),
});
const unread = z.strictObject({
  backlog: z
    .strictObject({ bytes: size, atMost: duration })
    .describe('a run when so much is unread, uncompressed, and at the latest so long after the last one'),
});
const forms = 'manual, continuous, { s3: my-bucket, prefix: in/ } or { sqs: the ARN of a queue }';

const schedules = {
  every: duration.optional().describe('a run of every task at this interval: whole minutes'),
  cron: z
    .string()
    .optional()
    .describe('a run of every task at these times: minutes, hours, day of month, month, day of week, year')
    .meta({ examples: ['0 2 * * ? *', '0/15 8-17 ? * MON-FRI *'] }),
  timeZone: z.string().optional().describe('whose clocks the hours of `cron` are of; UTC if left out'),
  window: duration.optional().describe('a run of `cron` starts at any moment of this time'),
};
/** For what reads a system: there is no topic to wait for. */
const trigger = {
  ...schedules,
  trigger: z.union([words, objects, messages], { error: `use ${forms}` }).optional(),
};
const readerTrigger = {
  ...schedules,
  trigger: z
    .union([words, objects, messages, unread], {
      error: `use ${forms}, or { backlog: { bytes: 64MiB, atMost: 1h } }`,
    })
    .optional(),
};

type Triggers = { readonly [key in 'every' | 'cron' | 'timeZone' | 'window' | 'trigger']?: unknown };

/** A reader of the log may leave it to new data to start its runs; what reads a system has to say it. */
const checkTriggers =
  (fewest: 0 | 1) =>
  ({ value, issues }: { value: Triggers; issues: z.core.$ZodRawIssue[] }): void => {
    const problem = (path: PropertyKey[], message: string) =>
      issues.push({ code: 'custom', input: value, path, message });
    const { every, cron, trigger } = value;
    const given = [every, cron, trigger].filter((one) => one !== undefined).length;
    if (given < fewest || given > 1) problem([], 'give one of `every: 1m` (or longer), `cron` and `trigger`');
    for (const key of ['timeZone', 'window'] as const)
      if (value[key] !== undefined && cron === undefined) problem([key], 'it goes with `cron` only');
  };

const connector = {
  connector: z
    .string()
    .optional()
    .describe(
      'the plugin: file, postgres, mysql; or a connector of your own, as a path relative to this file: ./my-source.ts',
    ),
  config: z
    .record(z.string(), z.unknown())
    .default({})
    .describe("the connector's own config; Kafka Connect's and RocketMQ Connect's framework keys are understood in it"),
};

const from = z.array(Name).min(1).describe('names of sources and processors of this file, or of topics');
const delivery = z
  .enum(deliveries)
  .optional()
  .describe('what must be given, refused where it cannot be; the best possible if left out');

export const SourceSection = z.strictObject({ ...connector, ...trigger, ...options }).check(checkTriggers(1));
export const SinkSection = z
  .strictObject({ ...connector, from: from.optional(), delivery, ...readerTrigger, ...options })
  .check(checkTriggers(0));
export const ProcessorSection = z
  .strictObject({
    from,
    to: Name.describe('the topic that all its records go to'),
    ...readerTrigger,
    ...options,
  })
  .check(checkTriggers(0));
export const DirectSection = z
  .strictObject({
    source: z.strictObject(connector),
    sink: z.strictObject(connector),
    delivery,
    ...trigger,
    ...options,
  })
  .check(checkTriggers(1));

const section = <Section extends z.ZodType>(schema: Section) => z.record(z.string(), schema).optional();

export const PipelineFile = z.strictObject({
  $schema: z.string().optional().describe('for editors'),
  name: Name.describe("the first part of its connectors' names"),
  topics: section(Topic).describe('options of topics that this pipeline writes, by name'),
  sources: section(SourceSection).describe('connectors that read a system into topics'),
  processors: section(ProcessorSection).describe('copies of topics into other topics'),
  sinks: section(SinkSection).describe('connectors that write topics into a system'),
  direct: section(DirectSection).describe('connectors from one system into another, with no topic between'),
});
export type PipelineFile = z.output<typeof PipelineFile>;
