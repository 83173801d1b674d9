import { isDeepStrictEqual } from 'node:util';
import { orderProblem, type Tells, untoldProblem, type WantedOrder } from '../shared/connect/control.ts';
import type { TopicSpec } from '../shared/connect/spec.ts';

/** A processor, as an edge between topics. */
export interface Edge {
  readonly from: readonly string[];
  readonly to: string;
}

/** The topics of the first loop that processors form, from a topic back to itself; undefined: records end somewhere. */
export const findLoop = (edges: readonly Edge[]): readonly string[] | undefined => {
  const done = new Set<string>();
  const follow = (topic: string, path: readonly string[]): readonly string[] | undefined => {
    if (path.includes(topic)) return [...path.slice(path.indexOf(topic)), topic];
    if (done.has(topic)) return undefined;
    for (const edge of edges.filter(({ from }) => from.includes(topic))) {
      const loop = follow(edge.to, [...path, topic]);
      if (loop !== undefined) return loop;
    }
    done.add(topic);
    return undefined;
  };
  for (const { to } of edges) {
    const loop = follow(to, []);
    if (loop !== undefined) return loop;
  }
  return undefined;
};

/** These topics, and those that processors make them of. */
const topicsBefore = (topics: readonly string[], edges: readonly Edge[]): ReadonlySet<string> => {
  const found = new Set(topics);
  // A set is walked with what is added on the way.
  for (const topic of found) for (const { from, to } of edges) if (to === topic) for (const one of from) found.add(one);
  return found;
};

export const loopProblem = (loop: readonly string[]): string =>
  `the processors form a loop, ${loop.join(' -> ')}: a record would go round for ever; let one of them write to a topic of its own`;

export const unknownTopic = (topic: string, known: Iterable<string>): string => {
  const names = [...known].sort();
  return `no source or processor writes topic "${topic}"; ${names.length === 0 ? 'there are no topics' : `topics are: ${names.join(', ')}`}`;
};

interface Declared {
  readonly spec: TopicSpec;
  readonly by: string;
}

/** Who writes and reads which topic on one platform. `by` is a construct path, for messages. */
export const topicGraph = () => {
  const connectors = new Map<string, string>();
  const topics = new Map<string, Declared>();
  const writers = new Map<string, string[]>();
  const readers = new Map<string, { readonly by: string; readonly onWriter: (connector: string) => void }[]>();
  const external = new Set<string>();
  const ordered: { readonly topics: readonly string[]; readonly by: string; readonly order: WantedOrder }[] = [];
  const sources: { readonly topics: readonly string[]; readonly by: string; readonly tells: Tells }[] = [];
  const edges: Edge[] = [];

  const get = <T>(lists: Map<string, T[]>, topic: string): T[] => {
    const list = lists.get(topic) ?? [];
    lists.set(topic, list);
    return list;
  };

  return {
    edges,
    /** A connector is its name: a second one would take over the rows of the first. */
    nameProblem(connector: string): string | undefined {
      const first = connectors.get(connector);
      return first && `there is a connector ${connector} already, ${first}: give one of them another name`;
    },
    addConnector(connector: string, by: string): void {
      connectors.set(connector, by);
    },
    topicProblem(spec: TopicSpec): string | undefined {
      const first = topics.get(spec.name);
      if (first === undefined || isDeepStrictEqual(first.spec, spec)) return undefined;
      const describe = ({ queues, retentionMs, maxBacklogBytes }: TopicSpec) =>
        [
          `queues ${queues}`,
          `retention ${retentionMs} ms`,
          ...(maxBacklogBytes ? [`maxBacklog ${maxBacklogBytes} bytes`] : []),
        ].join(' and ');
      return `topic ${spec.name} has ${describe(spec)} here and ${describe(first.spec)} for ${first.by}: declare it the same in both`;
    },
    addTopic(spec: TopicSpec, by: string): void {
      if (!topics.has(spec.name)) topics.set(spec.name, { spec, by });
    },
    /** Tells every reader of the topic, those that come later too. */
    addWriter(topic: string, connector: string): void {
      get(writers, topic).push(connector);
      for (const reader of get(readers, topic)) reader.onWriter(connector);
    },
    addReader(topic: string, by: string, onWriter: (connector: string) => void): void {
      get(readers, topic).push({ by, onWriter });
      for (const connector of get(writers, topic)) onWriter(connector);
    },
    /** What a source tells of in its topics. Processors pass it on. */
    addSource(topics: readonly string[], by: string, tells: Tells): void {
      sources.push({ topics, by, tells });
    },
    /** Who needs its order as a whole. Of a topic that another app writes only the function finds out. */
    addOrderedReader(topics: readonly string[], by: string, order: WantedOrder): void {
      ordered.push({ topics, by, order });
    },
    /** Somebody outside the app writes it: nobody can say who, so its readers are told `*`. */
    addExternal(topic: string): void {
      if (!external.has(topic)) this.addWriter(topic, '*');
      external.add(topic);
    },
    /** What only shows when everything has been added. */
    problems(): readonly string[] {
      const written = new Set([...writers].flatMap(([topic, list]) => (list.length > 0 ? [topic] : [])));
      const unwritten = [...readers].filter(([topic]) => !written.has(topic));
      const unknown = unwritten.flatMap(([topic, list]) =>
        list.map(({ by }) => `${by}: from: ${unknownTopic(topic, written)}`),
      );
      const loop = findLoop(edges);
      const unordered = ordered.flatMap(({ topics: names, by, order }) => {
        const read = names.map((name) => ({ name, queues: topics.get(name)?.spec.queues ?? 1 }));
        const problem = orderProblem(order, read);
        const before = topicsBefore(names, edges);
        const untold = sources
          .filter((source) => source.topics.some((topic) => before.has(topic)))
          .map((source) => untoldProblem(order, source.by, source.tells));
        return [problem, ...untold].flatMap((one) => (one === undefined ? [] : [`${by}: from: ${one}`]));
      });
      return [...unknown, ...unordered, ...(loop === undefined ? [] : [loopProblem(loop)])];
    },
  };
};
