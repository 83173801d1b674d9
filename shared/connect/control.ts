import { batchOfGroups, type RecordGroup } from './batch.ts';
import { batchOf, type RecordInput } from './build.ts';
import { isStruct, type Schema, type Struct, type StructSchema } from './schema.ts';

/*
 * Control records say where something begins and ends among the records of a topic: a run (the snapshot of a table, one window of a query),
 * so that a sink can show it whole, and the transactions of the source. A control record has no key, an offset of its own, and a value
 * of one fixed schema, so it is a group of its own. Who does not know it never sees it: transforms are led around it, and it is left out
 * in front of a sink that does not say `takesControl`. The log carries it as any record; a reader who needs it reads topics of one queue.
 */

/** `replace`: the run is the whole content of the table. `merge`: its rows replace those of their keys, and the others stay. */
export type Scope = 'replace' | 'merge';

export type Control =
  /** `run` is the same where the same run is sent again; a begin voids what an earlier attempt has sent. */
  | { readonly event: 'begin'; readonly run: string; readonly scope: Scope }
  /** `records` of the topic since the begin; undefined where a transform may have left some out or made more. */
  | { readonly event: 'end'; readonly run: string; readonly records: number | undefined }
  /** All changes of the source's transaction stand before it, and none behind it. */
  | { readonly event: 'commit'; readonly transaction: string };

const text = { type: 'string', optional: true } as const;

const controlSchema: StructSchema = {
  type: 'struct',
  name: 'sluice.Control',
  fields: [
    { name: 'event', schema: { type: 'string' } },
    { name: 'run', schema: text },
    { name: 'scope', schema: text },
    { name: 'records', schema: { type: 'int64', optional: true } },
    { name: 'transaction', schema: text },
  ],
};

export const isControl = (schema: Schema): boolean => isStruct(schema) && schema.name === controlSchema.name;

/** The record that a source sends, in the topic of the records it speaks of. */
export const controlRecord = (topic: string, control: Control): RecordInput => ({
  topic,
  value: Object.fromEntries(Object.entries(control).filter(([, value]) => value !== undefined)) as Struct,
  valueSchema: controlSchema,
});

/** Whether a group tells of runs; else of transactions. */
export const tellsRuns = (group: RecordGroup): boolean =>
  isControl(group.value.schema) && controlsOf(group).some(({ event }) => event !== 'commit');

/** The end of a transaction, for each topic that has changes of it. */
export const commitGroups = (topics: Iterable<string>, transaction: string): readonly RecordGroup[] =>
  batchOf(Array.from(topics, (topic) => controlRecord(topic, { event: 'commit', transaction }))).groups;

/** What the records of a group of control records say. */
export const controlsOf = (group: RecordGroup): readonly Control[] =>
  Array.from(batchOfGroups([group]), ({ value }) => {
    const { event, run, scope, records, transaction } = value as { readonly [field: string]: unknown };
    return {
      event,
      run,
      scope,
      transaction,
      records: typeof records === 'bigint' ? Number(records) : undefined,
    } as Control;
  });

/** An order that a reader of the log needs. It keeps that of the records of one queue. */
export interface WantedOrder {
  readonly of: 'a topic' | 'all records';
  /** The setting that asks for it. */
  readonly setting: string;
  /** What its source must tell of: without it nothing would be written, or nothing whole. */
  readonly waitsFor?: Told;
}

/** What a source may tell of by control records. */
export type Told = 'runs' | 'transactions';

/** What a source tells of with its config: true, or the setting that makes it. Left out: it never does. */
export type Tells = { readonly [told in Told]?: true | string };

/** Why a reader would wait for ever for what a source tells of; undefined where it is told. `source` is its name, for messages. */
export const untoldProblem = ({ waitsFor, setting }: WantedOrder, source: string, tells: Tells): string | undefined => {
  const told = waitsFor === undefined || tells[waitsFor];
  if (told === true) return undefined;
  const mend = told === undefined ? `it has no setting for it, so leave out ${setting}` : `set ${told} in its config`;
  return `${setting} waits for the end of ${waitsFor}, and ${source} tells of none: ${mend}`;
};

/** Why topics of so many queues do not have it; undefined where they have. */
export const orderProblem = (
  { of, setting }: WantedOrder,
  topics: readonly { readonly name: string; readonly queues: number }[],
): string | undefined => {
  const several = topics.find(({ queues }) => queues > 1);
  if (several !== undefined)
    return `topic ${several.name} has ${several.queues} queues, and ${setting} needs the order of all its records: give it one queue`;
  if (of === 'a topic' || topics.length < 2) return undefined;
  return `${topics.map(({ name }) => name).join(' and ')} are ${topics.length} topics, and ${setting} needs the order of all records: read one topic`;
};
