import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import * as z from 'zod';
import { ConnectError } from '../shared/connect/errors.ts';
import { namePattern } from '../shared/connect/name.ts';
import { connectorName } from './constructs/connector-name.ts';
import { errorPolicy } from './constructs/error-policy.ts';
import type { ConnectorOptions, TopicProps } from './constructs/pipeline-props.ts';
import { linkPipelines } from './pipeline-links.ts';
import type { Draft, Nodes, nodeKinds, PipelineModel } from './pipeline-model.ts';
import { type ReadNode, readDirect, readProcessor, readSink, readSource } from './pipeline-nodes.ts';
import { DirectSection, PipelineFile, ProcessorSection, SinkSection, SourceSection } from './pipeline-schema.ts';
import { readTaskFile } from './pipeline-task.ts';
import { parseDuration, parseSize } from './pipeline-units.ts';
import { describeProblem, type Problem, problemsOf } from './problems.ts';
import { readYaml } from './yaml-source.ts';

export const loadPipelineFile = (file: string): PipelineModel => loadPipelineFiles([file])[0]!;

/**
 * Pipelines that are to run on one platform, checked by themselves and together. YAML, or the JSON of a Kafka Connect or RocketMQ
 * Connect task.
 *
 * @throws CONFIG_INVALID with every problem of every file, each with its line
 */
export const loadPipelineFiles = (files: readonly string[]): readonly PipelineModel[] => {
  const read = files.map((file) => readPipeline(file, readText(file)));
  const drafts = read.flatMap(({ draft }) => (draft === undefined ? [] : [draft]));
  const linked = linkPipelines(drafts);
  const lines = read.flatMap(({ describe }) => describe());
  if (lines.length === 0) return linked;
  throw new ConnectError('CONFIG_INVALID', lines.join('\n'));
};

const readText = (file: string): string => {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new ConnectError('NOT_FOUND', `can't read the pipeline file ${file}: ${(cause as Error).message}`, { cause });
  }
};

const readPipeline = (file: string, text: string): { draft?: Draft; describe: () => readonly string[] } => {
  const source = readYaml(text);
  if (source.problems.length > 0)
    return { describe: () => source.problems.map(({ line, message }) => `${file}:${line}: ${message}`) };
  const task = readTaskFile(file, source.value);
  const locate = (path: readonly PropertyKey[]) => task?.locate(path) ?? path;
  const toLine = ({ path, message }: Problem) => {
    const place = locate(path);
    return { line: source.lineOf(place), text: describeProblem({ path: place, message }) };
  };
  const describe = (problems: readonly Problem[]) =>
    problems
      .map(toLine)
      .sort((a, b) => a.line - b.line)
      .map((one) => `${file}:${one.line}: ${one.text}`);
  if (task !== undefined && task.pipeline === undefined)
    return {
      describe: () => task.problems.map((one) => `${file}:${source.lineOf(one.path)}: ${describeProblem(one)}`),
    };
  const draft = readDraft(file, task?.pipeline ?? source.value, task?.externalTopics ?? []);
  return { draft, describe: () => describe(draft.problems) };
};

/** Every node by itself, so that one bad node does not hide what is wrong with another. */
const readDraft = (file: string, value: unknown, externalTopics: readonly string[]): Draft => {
  const parsed = PipelineFile.safeParse(value);
  const problems: Problem[] = parsed.success ? [] : [...problemsOf(parsed.error)];
  const ignored: string[] = [];
  const top = z.looseObject({}).safeParse(value).data ?? {};
  const name = typeof top.name === 'string' ? top.name : '';
  let incomplete = false;

  const section = <Schema extends z.ZodType, Props extends ConnectorOptions>(
    kind: (typeof nodeKinds)[number],
    schema: Schema,
    read: (section: z.output<Schema>, directory: string) => ReadNode<Props>,
  ): Nodes<Props> => {
    const nodes = Object.entries(z.record(z.string(), z.unknown()).safeParse(top[kind]).data ?? {});
    const props = nodes.flatMap(([node, raw]): [string, Props][] => {
      if (!namePattern.test(node)) problems.push({ path: [kind, node], message: nameProblem(node) });
      const shape = schema.safeParse(raw);
      if (!shape.success) return [];
      const result = read(shape.data, dirname(file));
      ignored.push(...result.ignored);
      const more = result.props === undefined ? [] : errorPolicy(connectorName(name, node), result.props).problems;
      for (const one of [...result.problems, ...more])
        problems.push({ path: [kind, node, ...one.path], message: one.message });
      return result.props === undefined ? [] : [[node, result.props]];
    });
    incomplete ||= props.length < nodes.length;
    return Object.fromEntries(props);
  };

  const model: PipelineModel = {
    file,
    name,
    topics: parsed.success ? mapValues(parsed.data.topics ?? {}, readTopic) : {},
    externalTopics,
    sources: section('sources', SourceSection, readSource),
    processors: section('processors', ProcessorSection, readProcessor),
    sinks: section('sinks', SinkSection, readSink),
    direct: section('direct', DirectSection, readDirect),
    ignored,
  };
  return { model, problems, incomplete: incomplete || !parsed.success };
};

const nameProblem = (name: string): string =>
  `"${name}" is not a name; use letters, digits, ".", "_" and "-", at most 200`;

const readTopic = ({
  queues,
  retention,
  maxBacklog,
}: {
  queues?: number | undefined;
  retention?: string | undefined;
  maxBacklog?: string | undefined;
}): TopicProps => ({
  queues,
  retention: retention === undefined ? undefined : parseDuration(retention),
  maxBacklog: maxBacklog === undefined ? undefined : parseSize(maxBacklog),
});

const mapValues = <In, Out>(record: { readonly [key: string]: In }, map: (value: In) => Out): { [key: string]: Out } =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));
