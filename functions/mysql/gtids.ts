import { GtidSet, MariadbGtidPosition } from '@vlasky/zongji';

/** The transactions of a MySQL GTID set (`uuid:1-5`) or up to a MariaDB GTID position (`0-1-1234`). */
export interface Gtids {
  has(gtid: string): boolean;
}

const parsed = new Map<string, Gtids>();

export const gtidSetOf = (text: string): Gtids => {
  const known = parsed.get(text);
  if (known !== undefined) return known;
  const made = parse(text);
  parsed.set(text, made);
  return made;
};

const parse = (text: string): Gtids => {
  if (text.includes(':')) {
    const set = GtidSet.parse(text);
    return { has: (gtid) => set.contains(gtid) };
  }
  const position = MariadbGtidPosition.parse(text);
  return { has: (gtid) => position.covers(gtid) };
};
