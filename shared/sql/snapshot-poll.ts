import type { RecordInput } from '../connect/build.ts';
import { movedBytes, type Poll, type Position, pollOf } from '../connect/connector.ts';
import { type Control, controlRecord } from '../connect/control.ts';
import type { PlanOffset } from './snapshot.ts';

/** An offset that is to be committed at once, with a record or with none. */
export const committing = <Offset>(position: Position<Offset>, record?: RecordInput): Poll<Offset> =>
  pollOf(record === undefined ? [] : [{ ...record, ...position }], {
    offsets: [position],
    caughtUp: false,
    moved: movedBytes,
  });

/** Other tasks have to commit first. */
export const waiting = <Offset>(): Poll<Offset> => pollOf<Offset>([], { caughtUp: true, waits: true });

/** The control records around the rows of a table; undefined where runs are not told. The run is the same for every attempt to read it by one plan. */
export const createRunRecords = (isTold: boolean, incarnation: string, topicOf: (table: string) => string) => {
  const recordOf = (table: string, control: Control) => (isTold ? controlRecord(topicOf(table), control) : undefined);
  const runOf = (table: string, { plan }: Pick<PlanOffset, 'plan'>) => `${incarnation}/${table}/${plan}`;
  return {
    begin: (table: string, offset: Pick<PlanOffset, 'plan'>): RecordInput | undefined =>
      recordOf(table, { event: 'begin', run: runOf(table, offset), scope: 'replace' }),
    end: (table: string, offset: Pick<PlanOffset, 'plan'>): RecordInput | undefined =>
      recordOf(table, { event: 'end', run: runOf(table, offset), records: undefined }),
  };
};
