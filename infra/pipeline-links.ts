import { connectorName } from './constructs/connector-name.ts';
import { type Draft, nodeKinds, type PipelineModel, writtenTopics } from './pipeline-model.ts';
import { type ReadProcessor, type ReadSink, sourceTopics } from './pipeline-nodes.ts';
import { findLoop, loopProblem, unknownTopic } from './topic-graph.ts';

/**
 * What only shows when all pipelines of a platform are seen together: names, topics, loops. Reports into each draft's problems and
 * returns the models with `from` as topics.
 */
export const linkPipelines = (drafts: readonly Draft[]): readonly PipelineModel[] => {
  checkNames(drafts);
  const topics = new Set(drafts.flatMap(({ model }) => [...writtenTopics(model).keys(), ...model.externalTopics]));
  // A source that could not be read may write any topic.
  const complete = drafts.every(({ incomplete }) => !incomplete);
  const models = drafts.map((draft) => linkOne(draft, topics, complete));
  checkLoops(drafts, models);
  return models;
};

const checkNames = (drafts: readonly Draft[]): void => {
  const seen = new Map<string, string>();
  for (const { model, problems } of drafts)
    for (const kind of nodeKinds)
      for (const node of Object.keys(model[kind])) {
        const name = connectorName(model.name, node);
        const first = seen.get(name);
        if (first === undefined) seen.set(name, `${model.file} ${kind}.${node}`);
        else
          problems.push({
            path: [kind, node],
            message: `there is a connector ${name} already, ${first}: give one of them another name`,
          });
      }
};

const linkOne = ({ model, problems }: Draft, topics: ReadonlySet<string>, complete: boolean): PipelineModel => {
  const outputs = outputsOf(model);
  let unknown = false;
  const link = <Props extends ReadSink | ReadProcessor>(kind: 'sinks' | 'processors') =>
    Object.fromEntries(
      Object.entries(model[kind] as { [node: string]: Props }).map(([node, props]) => {
        const from = props.from.flatMap((name, index) => {
          const path = [kind, node, 'from', index];
          const written = outputs.get(name);
          if (written === undefined && topics.has(name)) return [name];
          if (written === undefined) {
            unknown = true;
            if (complete) problems.push({ path, message: unknownFrom(name, outputs.keys(), topics) });
            return [];
          }
          if (topics.has(name) && !written.includes(name))
            problems.push({
              path,
              message: `"${name}" is a node that writes ${written.join(', ')}, and a topic that another one writes: rename one of them`,
            });
          return written;
        });
        return [node, { ...props, from: [...new Set(from)] }];
      }),
    );
  const linked = { ...model, sinks: link<ReadSink>('sinks'), processors: link<ReadProcessor>('processors') };
  const readers = Object.keys({ ...model.sinks, ...model.processors }).length;
  const writers = Object.keys({ ...model.sources, ...model.direct }).length;
  if (complete && writers === 0 && (readers === 0 || unknown))
    problems.push({ path: [], message: 'the pipeline has no source; give `sources` or `direct`' });
  checkTopicOptions(model, problems, complete);
  return linked;
};

/** The topics that a name in `from` stands for, where it is a node of the same file. */
const outputsOf = ({ sources, processors }: PipelineModel): ReadonlyMap<string, readonly string[]> =>
  new Map([
    ...Object.entries(sources).map(([node, { connector }]) => [node, sourceTopics(connector)] as const),
    ...Object.entries(processors).map(([node, { to }]) => [node, [to]] as const),
  ]);

const unknownFrom = (name: string, nodes: Iterable<string>, topics: Iterable<string>): string => {
  const names = [...nodes].sort().join(', ');
  return `there is no source or processor "${name}"${names === '' ? '' : ` (there are ${names})`}, and ${unknownTopic(name, topics)}`;
};

const checkTopicOptions = (model: PipelineModel, problems: Draft['problems'], complete: boolean): void => {
  const written = new Set([...outputsOf(model).values()].flat());
  for (const topic of Object.keys(model.topics))
    if (complete && !written.has(topic))
      problems.push({
        path: ['topics', topic],
        message: `no source or processor of this pipeline writes it; it writes ${[...written].sort().join(', ') || 'none'}`,
      });
};

const checkLoops = (drafts: readonly Draft[], models: readonly PipelineModel[]): void => {
  const edges = models.flatMap((model, at) =>
    Object.entries(model.processors).map(([node, { from, to }]) => ({ at, node, from, to })),
  );
  const loop = findLoop(edges);
  if (loop === undefined) return;
  const { at, node } = edges.find(({ to }) => to === loop[0])!;
  drafts[at]!.problems.push({ path: ['processors', node, 'to'], message: loopProblem(loop) });
};
