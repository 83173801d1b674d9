import { connectorName } from './constructs/connector-name.ts';
import { errorPolicy } from './constructs/error-policy.ts';
import type { ConnectorOptions, DirectProps, SourceProps, TopicProps } from './constructs/pipeline-props.ts';
import { type ReadProcessor, type ReadSink, sourceTopics } from './pipeline-nodes.ts';
import type { Problem } from './problems.ts';

export type Nodes<Props> = { readonly [node: string]: Props };

/** A checked pipeline, as the constructs take it. `from` of sinks and processors are topics. */
export interface PipelineModel {
  readonly file: string;
  readonly name: string;
  readonly topics: { readonly [topic: string]: TopicProps };
  readonly externalTopics: readonly string[];
  readonly sources: Nodes<SourceProps>;
  readonly processors: Nodes<ReadProcessor>;
  readonly sinks: Nodes<ReadSink>;
  readonly direct: Nodes<DirectProps>;
  /** Keys that are understood and mean nothing here, such as converters. */
  readonly ignored: readonly string[];
}

/** A pipeline whose nodes are read one by one, before the names between them are looked at. */
export interface Draft {
  readonly model: PipelineModel;
  /** A node could not be read: which topics there are is not known. */
  readonly incomplete: boolean;
  readonly problems: Problem[];
}

export const nodeKinds = ['sources', 'processors', 'sinks', 'direct'] as const;

/** What each node writes: topic → the path of the node. Dead letters included. */
export const writtenTopics = ({
  name,
  sources,
  processors,
  sinks,
  direct,
}: PipelineModel): ReadonlyMap<string, readonly PropertyKey[]> => {
  const written = new Map<string, readonly PropertyKey[]>();
  for (const [node, { connector }] of Object.entries(sources))
    for (const topic of sourceTopics(connector)) written.set(topic, ['sources', node]);
  for (const [node, { to }] of Object.entries(processors)) written.set(to, ['processors', node]);
  for (const [kind, nodes] of Object.entries({ sources, processors, sinks, direct }))
    for (const [node, options] of Object.entries(nodes as Nodes<ConnectorOptions>)) {
      const letters = errorPolicy(connectorName(name, node), options).policy.deadLetterTopic;
      if (letters !== undefined) written.set(letters, [kind, node]);
    }
  return written;
};
