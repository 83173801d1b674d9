import { ConnectError } from '../connect/errors.ts';

/**
 * The versions of the stored shapes that this release writes and reads (invariant 11). To change a shape: first release a reader
 * of v+1, only then a writer; keep reading the old ones. `test/shared/state/shapes.test.ts` pins each.
 */
export const shapes = {
  connector: 1,
  task: 1,
  offset: 1,
  prepared: 1,
  reset: 1,
  topic: 1,
  head: 1,
  segment: 1,
  history: 1,
  deployed: 1,
  lag: 1,
} as const;

export type Shape = keyof typeof shapes;

/** Invariant 11: a newer shape stops the reader before it writes anything. */
export const checkShape = (shape: Shape, version: unknown, where: string): void => {
  if (typeof version === 'number' && version >= 1 && version <= shapes[shape]) return;
  throw new ConnectError(
    typeof version === 'number' && version > shapes[shape] ? 'SHAPE_TOO_NEW' : 'CORRUPT',
    `${where} has ${shape} shape ${String(version)}, this release reads up to ${shapes[shape]}: deploy the release that wrote it`,
  );
};
