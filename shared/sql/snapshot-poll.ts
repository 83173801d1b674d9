import type { RecordInput } from '../connect/build.ts';
import { movedBytes, type Poll, type Position, pollOf } from '../connect/connector.ts';

/** An offset that is to be committed at once, with a record or with none. */
export const committing = <Offset>(position: Position<Offset>, record?: RecordInput): Poll<Offset> =>
  pollOf(record === undefined ? [] : [{ ...record, ...position }], {
    offsets: [position],
    caughtUp: false,
    moved: movedBytes,
  });

/** Other tasks have to commit first. */
export const waiting = <Offset>(): Poll<Offset> => pollOf<Offset>([], { caughtUp: true, waits: true });
