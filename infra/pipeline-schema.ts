import * as z from 'zod';
import { deliveries } from '../shared/connect/connector.ts';
import { ErrorPolicy, Name, TopicSpec } from '../shared/connect/spec.ts';

/** The form of a pipeline file: what the constructs take, as YAML. What it means is checked by `pipeline-file.ts`. */
const duration = z
  .string()
  .regex(/^\d+(ms|s|m|h|d)$/, 'expected a duration such as 500ms, 30s, 5m, 2h or 7d')
  .meta({ examples: ['1m', '2h', '7d'] });

const described = (schema: z.ZodType): string => schema.description ?? '';

const Topic = z.strictObject({
  queues: TopicSpec.shape.queues
    .unwrap()
    .optional()
    .describe(`${described(TopicSpec.shape.queues)}; 1 if left out`),
  retention: duration.optional().describe(`${described(TopicSpec.shape.retentionMs)}; 7d if left out`),
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
  maxBytes: z.int().min(1024).optional().describe('bytes of one batch, uncompressed; 4 MB if left out'),
  memoryMb: z.int().min(128).max(10_240).optional().describe('memory of its function; 512 if left out'),
  timeout: duration.optional().describe('how long one run may take; 2m if left out, 15m at most'),
};

const trigger = {
  every: duration.optional().describe('a run of every task at this interval: whole minutes'),
  trigger: z.literal('manual').optional().describe('runs are started by an operator only'),
};

const oneTrigger = ({ every, trigger }: { every?: unknown; trigger?: unknown }) =>
  every === undefined || trigger === undefined;
const someTrigger = ({ every, trigger }: { every?: unknown; trigger?: unknown }) =>
  (every === undefined) !== (trigger === undefined);
const needsTrigger = 'give either `every: 1m` (or longer), or `trigger: manual`';

const connector = {
  connector: z.string().optional().describe('the plugin: file, postgres'),
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

export const SourceSection = z
  .strictObject({ ...connector, ...trigger, ...options })
  .refine(someTrigger, { error: needsTrigger });
export const SinkSection = z
  .strictObject({ ...connector, from: from.optional(), delivery, ...trigger, ...options })
  .refine(oneTrigger, { error: needsTrigger });
export const ProcessorSection = z
  .strictObject({
    from,
    to: Name.describe('the topic that all its records go to'),
    ...trigger,
    ...options,
  })
  .refine(oneTrigger, { error: needsTrigger });
export const DirectSection = z
  .strictObject({
    source: z.strictObject(connector),
    sink: z.strictObject(connector),
    delivery,
    ...trigger,
    ...options,
  })
  .refine(someTrigger, { error: needsTrigger });

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
