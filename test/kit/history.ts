import { expect } from 'vitest';
import type { DatabaseServer, System } from './database.ts';

/**
 * Triggers of a table `t (id, n)` that keep every value that a row is given, in the order in which it is. Also one that it has already, which
 * PostgreSQL's sink does not write again: each row of an upsert is one to insert at first.
 */
export const historyOf = (system: System, schema: string): string => {
  const history = `${schema}.history`;
  if (system === 'postgres')
    return `CREATE TABLE ${history} (at bigserial PRIMARY KEY, id int, n int);
      CREATE FUNCTION ${schema}.note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO ${history} (id, n) VALUES (NEW.id, NEW.n); RETURN NEW; END $$;
      CREATE TRIGGER note BEFORE INSERT ON ${schema}.t FOR EACH ROW EXECUTE FUNCTION ${schema}.note()`;
  const note = (event: string) =>
    `CREATE TRIGGER ${schema}.note_${event} AFTER ${event} ON ${schema}.t FOR EACH ROW INSERT INTO ${history} (id, n) VALUES (NEW.id, NEW.n)`;
  return `CREATE TABLE ${history} (at bigint PRIMARY KEY AUTO_INCREMENT, id int, n int); ${note('insert')}; ${note('update')}`;
};

/** The values of each key in the order in which it was given them: none of them twice, and none after a larger one. */
export const versionsInOrder = async (
  server: DatabaseServer,
  schema: string,
): Promise<ReadonlyMap<string, readonly number[]>> => {
  const history = await server.rows(`SELECT id, n FROM ${schema}.history ORDER BY at`);
  const versions = new Map<string, number[]>();
  for (const [id, n] of history) versions.set(id!, [...(versions.get(id!) ?? []), Number(n)]);
  for (const [id, seen] of versions) expect(seen, `key ${id}`).toEqual([...new Set(seen)].toSorted((a, b) => a - b));
  return versions;
};
