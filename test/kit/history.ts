import type { System } from './database.ts';

/** Triggers of a table `t (id, n)` that keep every value that a row is given, in the order in which it is. */
export const historyOf = (system: System, schema: string): string => {
  const history = `${schema}.history`;
  if (system === 'postgres')
    return `CREATE TABLE ${history} (at bigserial PRIMARY KEY, id int, n int);
      CREATE FUNCTION ${schema}.note() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO ${history} (id, n) VALUES (NEW.id, NEW.n); RETURN NULL; END $$;
      CREATE TRIGGER note AFTER INSERT OR UPDATE ON ${schema}.t FOR EACH ROW EXECUTE FUNCTION ${schema}.note()`;
  const note = (event: string) =>
    `CREATE TRIGGER ${schema}.note_${event} AFTER ${event} ON ${schema}.t FOR EACH ROW INSERT INTO ${history} (id, n) VALUES (NEW.id, NEW.n)`;
  return `CREATE TABLE ${history} (at bigint PRIMARY KEY AUTO_INCREMENT, id int, n int); ${note('insert')}; ${note('update')}`;
};
