import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as z from 'zod';
import { type SinkPlugin, type SourcePlugin, sinkPlugins, sourcePlugins } from './connectors.ts';
import { PipelineFile } from './pipeline-schema.ts';

type JsonObject = { [key: string]: JsonObject };

/** `docs/pipeline.schema.json`, for completion and checks in editors. Written by `npm run build`; a test compares it. */
export const schemaPath = fileURLToPath(new URL('../docs/pipeline.schema.json', import.meta.url));

export const pipelineSchemaJson = (): string => {
  const schema = toJson(PipelineFile);
  const { sources, sinks, direct } = schema.properties as JsonObject;
  const { source, sink } = direct!.additionalProperties!.properties!;
  for (const node of [sources!.additionalProperties!, source!]) Object.assign(node, choice(sourcePlugins));
  for (const node of [sinks!.additionalProperties!, sink!]) Object.assign(node, choice(sinkPlugins));
  const configs = [...sourcePlugins, ...sinkPlugins].map((plugin) => [refOf(plugin), configOf(plugin)]);
  return `${JSON.stringify({ title: 'Sluice pipeline', ...schema, $defs: Object.fromEntries(configs) }, null, 2)}\n`;
};

const toJson = (schema: z.ZodType): JsonObject => z.toJSONSchema(schema, { io: 'input' }) as unknown as JsonObject;

const refOf = ({ plugin, role }: SourcePlugin | SinkPlugin): string => `${plugin}-${role}`;

/** Other keys stay allowed: the framework's keys of Kafka Connect may stand in a config too. */
const configOf = ({ schema }: SourcePlugin | SinkPlugin): JsonObject => {
  const { $schema: _, additionalProperties: __, ...config } = toJson(schema);
  return config as JsonObject;
};

/** The config of the plugin that `connector` names. */
const choice = (plugins: readonly (SourcePlugin | SinkPlugin)[]): object => ({
  allOf: plugins.map((one) => ({
    if: { properties: { connector: { const: one.plugin } }, required: ['connector'] },
    // biome-ignore lint/suspicious/noThenProperty: JSON Schema's own word
    then: { properties: { config: { $ref: `#/$defs/${refOf(one)}` } } },
  })),
});

export const writePipelineSchema = (): void => writeFileSync(schemaPath, pipelineSchemaJson());
export const readPipelineSchema = (): string => readFileSync(schemaPath, 'utf8');
