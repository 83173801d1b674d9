import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { RecordBatch } from '../../shared/connect/batch.ts';
import type { SinkTask } from '../../shared/connect/connector.ts';
import { describeSchema, type Schema, type Struct, type StructSchema } from '../../shared/connect/schema.ts';
import { nextCommit } from '../kit/put-records.ts';
import { seeded } from '../kit/seed.ts';
import { createRunner, type OffsetMap } from '../kit/source-runner.ts';
import { documentWith } from './document.ts';
import { mysqlColumns } from './mysql-columns.ts';
import { normalForm } from './normal-form.ts';
import { makeTypes, postgresColumns } from './postgres-columns.ts';
import { refusalOf } from './refusals.ts';
import type { SourceColumn } from './source-columns.ts';
import { type System, useSystems } from './systems.ts';

const systems = useSystems();
const systemOf = (name: string) => systems().find((one) => one.name === name)!;
const families = { mariadb: 'MySQL and MariaDB', mysql: 'MySQL and MariaDB', postgres: 'PostgreSQL' } as const;

/** Values of each type beside its edges. */
const samples = 25;

interface Cell {
  readonly id: number;
  readonly column: SourceColumn;
  readonly name: string;
  readonly isEdge: boolean;
}

/** A table of a column per type, and a row per value: where a row is refused, it is that value. */
const fill = async (system: System, columns: readonly SourceColumn[], seed: number): Promise<readonly Cell[]> => {
  const definitions = columns.map(({ type }, i) => `c${i} ${type}${/^timestamp(\(|$)/.test(type) ? ' NULL' : ''}`);
  await system.run(`CREATE TABLE t (id int PRIMARY KEY, ${definitions.join(', ')})`);
  await system.beginChanges();
  const cells: Cell[] = [];
  for (const [i, column] of columns.entries()) {
    const literals = [...column.edges, ...fc.sample(column.values, { numRuns: samples, seed })];
    const rows = literals.map((literal, at) => {
      const id = cells.length;
      cells.push({ id, column, name: `c${i}`, isEdge: at < column.edges.length });
      return `(${id}, ${literal})`;
    });
    await system.run(`INSERT INTO t (id, c${i}) VALUES ${rows.join()}`);
  }
  return cells;
};

/** By id, the text of the one column that a row is about; rows in which it is null are left out. */
const textsOf = async (system: System, table: string, cells: readonly Cell[], text: (cell: Cell) => string) => {
  const found = new Map<number, string>();
  for (const [, of] of Map.groupBy(cells, ({ name }) => name)) {
    const [first, last] = [of[0]!, of.at(-1)!];
    const rows = await system.texts(
      `SELECT id, ${text(first)} FROM ${table} WHERE id BETWEEN ${first.id} AND ${last.id}`,
    );
    for (const [id, value] of rows) if (typeof value === 'string') found.set(Number(id), value);
  }
  return found;
};

const refusedId = /"id"[,:]\s*"?(\d+)/;

const isRead = (offsets: OffsetMap) =>
  [...offsets.values()].some(({ offset }) => (offset as { done?: boolean }).done === true);

/** Polls until nothing is left, and gives each batch to `take` while it is there. */
const readAll = async (system: System, of: 'rows' | 'changes', take: (batch: RecordBatch) => Promise<unknown>) => {
  const { withTask, pollOnce, advance } = createRunner({ ...system.source(of), expected: [] });
  const refused = new Map<number, string>();
  let schemas: ReadonlyMap<string, Schema> = new Map();
  await withTask(async (task) => {
    const offsets: OffsetMap = new Map();
    for (;;) {
      const { batch, rejected = [], offsets: moved, caughtUp } = await pollOnce(task, offsets, { maxRecords: 700 });
      for (const { raw, error } of rejected)
        refused.set(Number(refusedId.exec(Buffer.from(raw!).toString())![1]), error.message);
      for (const { value } of batch.groups) {
        const [, after] = (value.schema as StructSchema).fields;
        schemas = new Map((after!.schema as StructSchema).fields.map(({ name, schema }) => [name, schema]));
      }
      if (batch.count > 0) await take(batch);
      advance(offsets, moved);
      if (caughtUp || (of === 'rows' && isRead(offsets))) return;
    }
  });
  return { refused, schemas };
};

/** Notes what the sink says of the rows that it refuses, by id. */
const put = async (task: SinkTask, batch: RecordBatch, refused: Map<number, string>) =>
  task.put(batch, {
    offsets: [await nextCommit(task)],
    epoch: 1,
    signal: new AbortController().signal,
    reject: async (rejected) => {
      const records = [...batch];
      for (const { index, error } of rejected) refused.set((records[index]!.key as Struct).id as number, error.message);
    },
    commit: async () => expect.unreachable(),
  });

/** What was seen of a type: which schema it has, which columns were made for it, and what was refused where. */
interface Seen {
  readonly sluice: Set<string>;
  readonly made: { readonly [family: string]: Set<string> };
  readonly refused: { readonly [who: string]: Set<string> };
}
const nothingSeen = (): Seen => {
  const perFamily = () => ({ 'MySQL and MariaDB': new Set<string>(), PostgreSQL: new Set<string>() });
  return { sluice: new Set(), made: perFamily(), refused: { source: new Set<string>(), ...perFamily() } };
};
/** By the source's family and the type. */
const seen = new Map<string, Map<string, Seen>>();

const columnsOf = (name: System['name']) =>
  name === 'postgres' ? postgresColumns : mysqlColumns.filter(({ only = name }) => only === name);

describe.each(['mariadb', 'mysql', 'postgres'] as const)('from %s', (name) => {
  test('every value of every type arrives as it was in every system, or is refused', async () => {
    const source = systemOf(name);
    if (name === 'postgres') await source.run(makeTypes);
    const cells = await fill(source, columnsOf(name), seeded('types').seed);
    const ofFamily = seen.get(families[name]) ?? new Map<string, Seen>();
    seen.set(families[name], ofFamily);
    const seenOf = ({ column: { type, only } }: Cell): Seen => {
      const key = type === 'json' && only === 'mariadb' ? 'json (MariaDB)' : type;
      if (!ofFamily.has(key)) ofFamily.set(key, nothingSeen());
      return ofFamily.get(key)!;
    };
    for (const cell of cells) seenOf(cell);
    for (const of of ['rows', 'changes'] as const) {
      const table = `${name}_${of}`;
      const sinks = await Promise.all(
        systems().map(async (system) => {
          const refused = new Map<number, string>();
          return { system, refused, task: await system.openSink({ table }) };
        }),
      );
      const { refused, schemas } = await readAll(source, of, (batch) =>
        Promise.all(sinks.map(({ task, refused: there }) => put(task, batch, there))),
      );
      const texts = await textsOf(source, 't', cells, ({ column: { text, type }, name: at }) =>
        (text ?? ((column) => source.textOf(column, type, schemas.get(at)!)))(at),
      );
      noteRefusals(cells, refused, (cell) => seenOf(cell).refused.source!);
      for (const cell of cells)
        seenOf(cell).sluice.add(describeSchema({ ...schemas.get(cell.name)!, optional: false } as Schema));
      for (const { system, task, refused: there } of sinks) {
        await task.close();
        const types = await system.columnTypes(table);
        const family = families[system.name];
        noteRefusals(cells, there, (cell) => seenOf(cell).refused[family]!);
        for (const cell of cells) seenOf(cell).made[family]!.add(types.get(cell.name)!);
        const arrived = await textsOf(system, table, cells, (cell) =>
          system.textOf(cell.name, types.get(cell.name)!, schemas.get(cell.name)!),
        );
        const formOf = ({ name: at }: Cell, text: string | undefined) =>
          text === undefined ? 'null' : normalForm(schemas.get(at)!, text);
        const wrong = cells.flatMap((cell) => {
          const isRefused = refused.has(cell.id) || there.has(cell.id);
          const before = formOf(cell, isRefused ? undefined : texts.get(cell.id));
          const now = formOf(cell, arrived.get(cell.id));
          const told = { type: cell.column.type, isRefused, before: before.slice(0, 200), now: now.slice(0, 200) };
          return now === before ? [] : [told];
        });
        expect(wrong.slice(0, 20), `${of} from ${name} to ${system.name}`).toEqual([]);
        for (const [type, of] of Map.groupBy(cells, (cell) => cell.column.type))
          expect(
            of.some(({ id }) => arrived.has(id)),
            `${type} of ${name} arrives in ${system.name}`,
          ).toBe(true);
      }
    }
  });
});

/** Whatever is refused of any value is refused of an edge, too: the document has it. */
const noteRefusals = (
  cells: readonly Cell[],
  refused: ReadonlyMap<number, string>,
  seenIn: (cell: Cell) => Set<string>,
) => {
  const known = cells.filter(({ id }) => refused.has(id));
  for (const cell of known.filter(({ isEdge }) => isEdge)) seenIn(cell).add(refusalOf(refused.get(cell.id)!));
  for (const cell of known) expect(seenIn(cell), cell.column.type).toContain(refusalOf(refused.get(cell.id)!));
};

const listed = (texts: Iterable<string>) => [...texts].join('; ');

test('the document says what was seen', async () => {
  const tables = Object.fromEntries(
    Array.from(seen, ([family, types]) => [
      `from ${family}`,
      [
        [
          'type',
          'Sluice',
          'column made in MySQL, MariaDB',
          'in PostgreSQL',
          'refused by the source',
          'by MySQL, MariaDB',
          'by PostgreSQL',
        ],
        ...Array.from(types, ([type, { sluice, made, refused }]) => [
          type,
          ...[sluice, made['MySQL and MariaDB']!, made.PostgreSQL!].map(listed),
          ...[refused.source!, refused['MySQL and MariaDB']!, refused.PostgreSQL!].map(listed),
        ]),
      ],
    ]),
  );
  await documentWith(tables);
});
