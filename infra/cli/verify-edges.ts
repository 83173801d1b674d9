import { ConnectError } from '../../shared/connect/errors.ts';
import type { VerifiedTable } from '../../shared/connect/verify.ts';
import type { InvokeFunction, VerifyAnswer } from '../../shared/management/ports.ts';
import type { ConnectorRow } from '../../shared/state/connectors.ts';
import type { AnswerOf, VerifyQuestion } from '../../shared/verify/answer.ts';

/** A source, and a sink that its rows come to: through the log, or in one connector. */
export interface Edge {
  readonly source: ConnectorRow;
  readonly sink: ConnectorRow;
  /** Those of the sink. Undefined: all, it is a direct connector. */
  readonly topics?: readonly string[];
}

const refused = (message: string): ConnectError => new ConnectError('CONFIG_INVALID', message);

/** What the connectors of these names lead from where to where. Throws where between the two is more than a copy. */
export const edgesOf = (rows: readonly ConnectorRow[], names: ReadonlySet<string>): readonly Edge[] => {
  const edges = rows.filter(({ name }) => names.has(name)).flatMap((sink) => edgesTo(sink, rows));
  for (const { source, sink } of edges)
    for (const { name, transforms = [] } of new Set([source, sink])) {
      const other = transforms.find((transform) => transform !== 'unwrap');
      if (other !== undefined)
        throw refused(
          `${name} has transform ${other}: only rows that go through as they are, or through unwrap, can be compared`,
        );
    }
  return edges;
};

const edgesTo = (sink: ConnectorRow, rows: readonly ConnectorRow[]): readonly Edge[] => {
  if (sink.kind === 'direct') return [{ source: sink, sink }];
  const bySource = Map.groupBy(sink.from ?? [], (topic) => writerOf(topic, rows));
  return Array.from(bySource, ([source, topics]) => ({ source, sink, topics }));
};

const writerOf = (topic: string, rows: readonly ConnectorRow[]): ConnectorRow => {
  const writers = rows.filter(({ to = [] }) => to.some(({ name }) => name === topic));
  const [writer] = writers;
  if (writer === undefined) throw refused(`nothing writes topic ${topic}: there is no source to compare with`);
  if (writers.length > 1)
    throw refused(
      `${writers.map(({ name }) => name).join(' and ')} write topic ${topic}: its rows are of several sources`,
    );
  if (writer.kind === 'processor')
    throw refused(`processor ${writer.name} writes topic ${topic}: what it makes of rows can't be compared`);
  return writer;
};

/** Asks one side of an edge. */
export type Ask = <Question extends VerifyQuestion>(
  side: 'source' | 'sink',
  question: Question,
) => Promise<AnswerOf<Question>>;

export const asker =
  (functions: InvokeFunction, edge: Edge): Ask =>
  async (side, question) => {
    const { name, functionName } = edge[side];
    const answer = (await functions.request(functionName, { connector: name, verify: question, side })) as VerifyAnswer;
    if ('refused' in answer) throw new ConnectError(answer.refused.code, `${name}: ${answer.refused.message}`);
    return answer.answer as never;
  };

/** A table of both sides, as far as it is compared. */
export interface TablePair {
  readonly table: VerifiedTable;
  /** The destination's name of it. */
  readonly destination: string;
  /** The destination keeps rows that the source has no more. */
  readonly keeps: boolean;
}

export interface EdgeTables {
  readonly pairs: readonly TablePair[];
  /** Its source reads rows first and then their changes, and can send rows again. */
  readonly ofChanges: boolean;
}

/** The tables of an edge. Two that go to one table can't be told apart there. */
export const tablesOf = async (ask: Ask, { sink, topics }: Edge): Promise<EdgeTables> => {
  const { tables, ofChanges } = await ask('source', { step: 'tables' });
  const pairs: TablePair[] = [];
  const taken = new Map<string, string>();
  for (const table of tables) {
    if (topics !== undefined && !topics.includes(table.topic)) continue;
    const { table: destination, ignored, keeps } = await ask('sink', { step: 'describe', table });
    const other = taken.get(destination);
    if (other !== undefined) throw refused(`${sink.name}: ${other} and ${table.table} both go to table ${destination}`);
    taken.set(destination, table.table);
    const columns = table.columns.filter(({ name }) => !ignored.includes(name));
    pairs.push({ table: { ...table, columns }, destination, keeps });
  }
  return { pairs, ofChanges };
};
