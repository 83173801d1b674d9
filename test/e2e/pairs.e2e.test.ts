import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { beforeAll, expect, test } from 'vitest';
import { type DatabaseServer, type System, systems, useDatabases } from '../kit/database.ts';
import { countsOf, difference, same } from '../kit/rows.ts';
import { type Seeded, seeded } from '../kit/seed.ts';
import { type Ended, killIfThere, makeWorkplace, messageOf, type Running, type Workplace } from '../kit/sluice.ts';
import { until } from '../kit/until.ts';

const pairs: readonly (readonly [from: System, to: System])[] = [
  ['mariadb', 'postgres'],
  ['mysql', 'mysql'],
  ['postgres', 'mariadb'],
  ['postgres', 'postgres'],
];
const ways = ['direct', 'log'] as const;
/** The schema or database of the destination. */
const placeOf = (from: System, way: (typeof ways)[number]) => `${from}_${way}`;

/** What is compared in the end. */
const tables = { customers: 'id, name, remark', orders: 'id, line, customer, price, tag', words: 'word, n' };

const server = useDatabases();
beforeAll(async () => {
  for (const system of systems) {
    const { run } = server(system);
    const places = pairs.filter(([, to]) => to === system).flatMap(([from]) => ways.map((way) => placeOf(from, way)));
    for (const name of ['shop', 'offsets', ...places]) await run(`CREATE SCHEMA ${name}`);
    await run(system === 'postgres' ? 'SET search_path = shop' : 'USE shop');
  }
});

const variableOf = (system: System, database: string) => `SLUICE_${system}_${database}`.toUpperCase();

const urlOf = (system: System, database: string) => `'\${env:${variableOf(system, database)}}'`;

const sourceOf = (system: System) =>
  `connector: ${system === 'postgres' ? 'postgres-cdc' : 'mysql-cdc'}, config: { url: ${urlOf(system, 'shop')}, topicPrefix: ${system}, tables: [shop.customers, shop.orders, shop.words] }`;

const sinkOf = ([from, to]: readonly [System, System], way: (typeof ways)[number]) =>
  `connector: ${to === 'postgres' ? 'postgres' : 'mysql'}, config: { url: ${urlOf(to, 'offsets')}, ${to === 'postgres' ? 'schema: offsets, ' : ''}table: '${placeOf(from, way)}.\${table}' }`;

const common = 'timeout: 5s, maxRecords: 500';
const pipeline = () => `name: p
sources:
${[...new Set(pairs.map(([from]) => from))].map((from) => `  ${from}: { every: 1m, tasks: 2, ${common}, ${sourceOf(from)} }`).join('\n')}
sinks:
${pairs.map((pair) => `  ${pair.join('-')}: { from: [${pair[0]}], ${common}, ${sinkOf(pair, 'log')} }`).join('\n')}
direct:
${pairs.map((pair) => `  ${pair.join('-')}-direct: { every: 1m, ${common}, source: { ${sourceOf(pair[0])} }, sink: { ${sinkOf(pair, 'direct')} } }`).join('\n')}
`;

const letters = 'abcdefghijklmnopqrstuvwxyz';

/** Transactions of one server, valid because it knows which keys are there. */
const createWriter = ({ run }: DatabaseServer, random: Seeded) => {
  const customers = new Set<number>();
  const orders = new Set<string>();
  const words = new Set<string>();
  let note = 'note';
  let hasTag = false;

  const order = () => `${random.integer(0, 3_000)},${random.integer(0, 2)}`;
  const word = () => Array.from({ length: 3 }, () => letters[random.integer(0, 25)]).join('');
  const at = (key: string) => `id = ${key.split(',')[0]} AND line = ${key.split(',')[1]}`;
  const price = () => `${random.integer(0, 10_000)}.${random.integer(10, 99)}`;

  const changeOrder = (): string => {
    const [key, other] = [order(), order()];
    if (!orders.has(key)) {
      orders.add(key);
      return `INSERT INTO orders (id, line, customer, price) VALUES (${key}, ${random.integer(1, 900)}, ${price()})`;
    }
    const kind = random.integer(0, 3);
    if (kind === 0 || (kind === 1 && orders.has(other))) {
      orders.delete(key);
      return `DELETE FROM orders WHERE ${at(key)}`;
    }
    if (kind === 1) {
      orders.delete(key);
      orders.add(other);
      const [id, line] = other.split(',');
      return `UPDATE orders SET id = ${id}, line = ${line}, customer = 7 WHERE ${at(key)}`;
    }
    return `UPDATE orders SET price = price + 1${hasTag ? `, tag = concat('tag ', ${random.integer(0, 99)})` : ''} WHERE ${at(key)}`;
  };
  const changeWord = (): string => {
    const key = word();
    if (words.has(key) && random.integer(0, 2) === 0) {
      words.delete(key);
      return `DELETE FROM words WHERE word = '${key}'`;
    }
    if (words.has(key)) return `UPDATE words SET n = n + 1 WHERE word = '${key}'`;
    words.add(key);
    return `INSERT INTO words (word, n) VALUES ('${key}', ${random.integer(0, 9)})`;
  };
  const changeCustomers = (): string => {
    const id = random.integer(1, 4_000);
    if (customers.has(id))
      return `UPDATE customers SET ${note} = concat('seen ', ${random.integer(0, 999)}) WHERE id BETWEEN ${id} AND ${id + 20}`;
    customers.add(id);
    return `INSERT INTO customers (id, name) VALUES (${id}, 'new ${id}')`;
  };

  return {
    async fill() {
      await run(`CREATE TABLE customers (id int PRIMARY KEY, name varchar(40), note varchar(200));
        CREATE TABLE orders (id bigint, line smallint, customer int, price decimal(12,2), PRIMARY KEY (id, line));
        CREATE TABLE words (word varchar(20) PRIMARY KEY, n int, old varchar(20))`);
      for (let id = 1; id <= 2_000; id++) customers.add(id);
      for (let id = 0; id < 3_000; id++) orders.add(`${id},${id % 3}`);
      while (words.size < 1_500) words.add(word());
      await run(`INSERT INTO customers VALUES ${[...customers].map((id) => `(${id}, 'customer ${id}', 'first')`).join()};
        INSERT INTO orders VALUES ${[...orders].map((key) => `(${key}, 1, ${price()})`).join()};
        INSERT INTO words VALUES ${[...words].map((one, n) => `('${one}', ${n}, 'old')`).join()}`);
    },
    /** Several tables in one transaction. */
    change: () =>
      run(
        `BEGIN; ${Array.from({ length: random.integer(1, 6) }, () => random.pick([changeOrder, changeOrder, changeWord, changeCustomers])!()).join('; ')}; COMMIT`,
      ),
    async alter(what: 'add' | 'drop' | 'rename') {
      if (what === 'drop') return run('ALTER TABLE words DROP COLUMN old');
      if (what === 'add') await run('ALTER TABLE orders ADD COLUMN tag varchar(30)');
      else await run('ALTER TABLE customers RENAME COLUMN note TO remark');
      if (what === 'add') hasTag = true;
      else note = 'remark';
    },
  };
};

/** All three changes of tables among the transactions, the first one while rows are still read. */
const write = async (random: Seeded, writer: ReturnType<typeof createWriter>) => {
  const alters = new Map([
    [random.integer(10, 150), 'add' as const],
    [random.integer(200, 350), 'drop' as const],
    [random.integer(400, 600), 'rename' as const],
  ]);
  for (let i = 0; i < 700; i++) {
    const alter = alters.get(i);
    if (alter !== undefined) await writer.alter(alter);
    await writer.change();
    await delay(random.integer(0, 50));
  }
};

const functionsOf = async (place: Workplace): Promise<readonly number[]> => {
  const found = await Promise.all(
    place.processes().map(async (pid) => {
      const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
      return environment.includes('AWS_LAMBDA_FUNCTION_NAME=Sluice-p') ? [pid] : [];
    }),
  );
  return found.flat();
};

/** Kills one function after the other, so many, or until the run has ended. */
const killSome = async (place: Workplace, running: Running, random: Seeded, most: number): Promise<void> => {
  let isOver = false;
  void running.ended.then(() => {
    isOver = true;
  });
  // From the first rows on: what dies while it is deployed is deployed again, and is not what this is about.
  await until(() => isOver || /records/.test(running.output()), { timeoutMs: 120_000 });
  for (let killed = 0; killed < most && !isOver; killed++) {
    const pid = await until(async () => isOver || random.pick(await functionsOf(place)), { timeoutMs: 120_000 });
    if (pid !== true) killIfThere(pid);
    await delay(random.integer(50, 800));
  }
};

const drained = (ended: Ended) => expect(ended.code, messageOf(ended)).toBe(0);

test('tables that change all the time are the same at every destination, directly and through the log, whatever is killed', {
  timeout: 400_000,
}, async () => {
  await using place = await makeWorkplace();
  await place.file('p.yaml', pipeline());
  const env = Object.fromEntries(
    systems.flatMap((system) =>
      ['shop', 'offsets'].map((database) => [variableOf(system, database), server(system).url(database)]),
    ),
  );
  const random = seeded('pairs');
  const writers = [];
  for (const system of systems) {
    const writer = createWriter(server(system), random);
    await writer.fill();
    writers.push(write(random, writer));
  }
  const written = Promise.all(writers);
  // It is awaited later; what fails before is seen then.
  written.catch(() => {});
  const first = place.start(['run', 'p.yaml'], env);
  await killSome(place, first, random, 12);
  first.kill('SIGKILL');
  await first.ended;
  const second = place.start(['run', 'p.yaml'], env);
  await killSome(place, second, random, 8);
  messageOf(await second.ended);
  await written;
  drained(await place.sluice(['run', 'p.yaml'], env));

  for (const [from, to] of pairs)
    for (const [table, columns] of Object.entries(tables)) {
      const source = countsOf(await server(from).rows(`SELECT ${columns} FROM shop.${table}`));
      expect(source.size).toBeGreaterThan(100);
      for (const way of ways) {
        const copy = countsOf(await copiedRows(server(to), placeOf(from, way), table, columns));
        expect(difference(copy, source), `${placeOf(from, way)}.${table} in ${to}`).toEqual(same);
      }
    }
  await until(() => place.processes().length === 0);
});

/** Of a column that was renamed after rows had come, these have the old one, and all that came since the new one. */
const copiedRows = async (server: DatabaseServer, place: string, table: string, columns: string) => {
  const known = await server.rows(
    `SELECT column_name FROM information_schema.columns WHERE table_schema = '${place}' AND table_name = '${table}'`,
  );
  const hadNote = known.some(([name]) => name === 'note');
  return server.rows(
    `SELECT ${hadNote ? columns.replace('remark', 'coalesce(remark, note)') : columns} FROM ${place}.${table}`,
  );
};
