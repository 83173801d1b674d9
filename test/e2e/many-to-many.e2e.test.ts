import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import mysql from 'mysql2/promise';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { filesOf, jsonLinesOf, queryRows } from '../kit/rows.ts';
import { type Ended, envelopeOf, makeWorkplace, messageOf, repository, type Workplace } from '../kit/sluice.ts';
import { until } from '../kit/until.ts';

const timeout = 600_000;
const example = join(repository, 'examples/many-to-many');

let place: Workplace;
let env: Record<string, string>;
let stopServers: () => Promise<void>;

/** The example as it stands, its servers started as it says. */
beforeAll(async () => {
  place = await makeWorkplace();
  await cp(example, place.path('.'), { recursive: true });
  await symlink(join(repository, 'node_modules'), place.path('node_modules'));
  const servers = spawn(process.execPath, [join(example, 'servers.ts'), place.path('servers')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(servers, 'exit');
  stopServers = async () => {
    servers.kill('SIGTERM');
    await ended;
  };
  let said = '';
  servers.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  await until(() => said.includes('# They run') || servers.exitCode !== null, { timeoutMs: timeout });
  expect(servers.exitCode, 'the servers did not start').toBeNull();
  env = Object.fromEntries([...said.matchAll(/^export (\w+)='(.*)'$/gm)].map(([, name, url]) => [name, url]));
}, timeout);
afterAll(async () => {
  await stopServers?.();
  await place?.[Symbol.asyncDispose]();
}, timeout);

const drained = async (run: Promise<Ended>) => {
  const ended = await run;
  expect(ended.code, messageOf(ended)).toBe(0);
};
const run = () => drained(place.sluice(['run', 'pipeline.yaml'], env));

type Rows = readonly (string | null)[][];

const textOfColumn = (value: unknown) => (value === null ? null : String(value));

/** Rows as texts, whatever the database; the statements order them by their first column. */
const ask = async (variable: string, sql: string): Promise<Rows> => {
  if (env[variable]!.startsWith('postgres')) return queryRows(env[variable]!, sql);
  const client = await mysql.createConnection({ uri: env[variable]!, multipleStatements: true, dateStrings: true });
  try {
    const [rows] = await client.query({ sql, rowsAsArray: true });
    // Of a change there are no rows.
    return [rows]
      .flat()
      .filter((row): row is never[] => Array.isArray(row))
      .map((row) => row.map(textOfColumn));
  } finally {
    await client.end();
  }
};

const customers = 'SELECT id, name, email, country FROM customers ORDER BY id';
const orders = 'SELECT id, customer, country, amount FROM orders ORDER BY id';
const contacts = 'SELECT id, email, phone FROM contacts ORDER BY id';
const invoices = 'SELECT id, order_id, amount, CASE WHEN paid THEN 1 ELSE 0 END FROM invoices ORDER BY id';

const german = (rows: Rows) => rows.filter(([, , country]) => country === 'DE');

/** What the sources have. */
const sources = async () => ({
  customers: await ask('SHOP_URL', customers),
  orders: await ask('SHOP_URL', orders),
  contacts: await ask('CRM_URL', contacts),
  invoices: await ask('BILLING_URL', invoices),
});

/** As the databases write it: JSON has numbers without zeros at their end. */
const textOf = (field: string, value: unknown): string | null => {
  if (value === null) return null;
  if (field === 'amount') return Number(value).toFixed(2);
  return String(typeof value === 'boolean' ? Number(value) : value);
};

/** The rows that changes leave, in the order of their ids. */
const replayed = async (topic: string, fields: readonly string[]): Promise<Rows> => {
  const rows = new Map<number, (string | null)[]>();
  type Row = Record<string, unknown>;
  for (const line of await jsonLinesOf(place.path(`out/changes/${topic}`))) {
    const { op, before, after } = line as { op: string; before: Row | null; after: Row | null };
    if (op === 'd' || (before !== null && before !== undefined && before.id !== after?.id))
      rows.delete(before!.id as number);
    if (after !== null)
      rows.set(
        after.id as number,
        fields.map((field) => textOf(field, after[field])),
      );
  }
  return [...rows].sort(([a], [b]) => a - b).map(([, row]) => row);
};

/** The e-mail of each id in CSV files, as the last line that has it says; and whether any name is in them. */
const addresses = async (topic: string) => {
  const last = new Map<string, string>();
  for (const file of await filesOf(place.path(`out/addresses/${topic}`))) {
    const [header, ...lines] = (await readFile(file, 'utf8')).trimEnd().split('\n');
    const at = header!.split(',').indexOf('email');
    for (const line of lines) last.set(line.split(',')[0]!, line.split(',')[at]!);
  }
  return last;
};

const masked = (rows: Rows, column: number) =>
  rows.map((row) => [row[0]!, row[column]!.replace(/^(.).*@/, '$1***@')] as const);

/** Everywhere but in `reports`, whose rows are given. */
const compare = async (reports: Rows) => {
  const of = await sources();
  expect(
    {
      customers: await ask('WAREHOUSE_URL', customers),
      orders: await ask('WAREHOUSE_URL', orders),
      contacts: await ask('WAREHOUSE_URL', contacts),
      invoices: await ask('WAREHOUSE_URL', invoices),
    },
    'warehouse',
  ).toEqual(of);
  expect([await ask('MIRROR_URL', contacts), await ask('MIRROR_URL', invoices)], 'mirror').toEqual([
    of.contacts,
    of.invoices,
  ]);
  expect(await ask('REPORTS_URL', orders), 'reports').toEqual(reports);
  expect(await replayed('shop.shop.customers', ['id', 'name', 'email', 'country'])).toEqual(of.customers);
  expect(await replayed('shop.shop.orders', ['id', 'customer', 'country', 'amount'])).toEqual(of.orders);
  expect(await replayed('crm.crm.contacts', ['id', 'email', 'phone'])).toEqual(of.contacts);
  expect(await replayed('billing.public.invoices', ['id', 'order_id', 'amount', 'paid'])).toEqual(of.invoices);
  const found = { ...Object.fromEntries(await addresses('shop.shop.customers')) };
  expect(found).toMatchObject(Object.fromEntries(masked(of.customers, 2)));
  expect(Object.values(found).every((email) => /^.\*\*\*@/.test(email))).toBe(true);
  expect(Object.fromEntries(await addresses('crm.crm.contacts'))).toMatchObject(
    Object.fromEntries(masked(of.contacts, 1)),
  );
  return of;
};

interface Status {
  readonly name: string;
  readonly connector: { readonly state: string };
  readonly lagRecords?: number;
  readonly lag?: { readonly records?: number; readonly bytes?: number; readonly behindMs?: number };
}
const status = async () => {
  const all = envelopeOf(await place.sluice(['status', '--json'], env)).result as Status[];
  return new Map(all.map((one) => [one.name, one]));
};

const change = async (round: number) => {
  const id = 1000 * round;
  await ask(
    'SHOP_URL',
    `BEGIN; INSERT INTO orders VALUES (${id}, 1, 'DE', 1.50), (${id + 1}, 2, 'FR', 2.50); DELETE FROM orders WHERE id = ${9 + round};
     UPDATE orders SET amount = amount + 1 WHERE country = 'DE'; INSERT INTO customers VALUES (${id}, 'New', 'new@example.com', 'DE');
     UPDATE customers SET email = 'ines.${round}@example.com' WHERE id = 3; COMMIT`,
  );
  await ask(
    'CRM_URL',
    `INSERT INTO contacts VALUES (${id}, 'other@example.com', NULL); DELETE FROM contacts WHERE id = ${round}`,
  );
  await ask('BILLING_URL', `INSERT INTO invoices VALUES (${id}, 11, 3.25, false)`);
  await ask('BILLING_URL', `UPDATE invoices SET paid = true WHERE id = 101`);
};

test('three databases into five destinations, each edge with its own offset and transforms', { timeout }, async () => {
  await run();
  const first = await sources();
  expect(Object.values(first).map((rows) => rows.length)).toEqual([3, 4, 2, 2]);
  await compare(german(first.orders));

  await change(1);
  await run();
  const second = await compare(german((await sources()).orders));

  await drained(place.sluice(['connectors', 'pause', 'many-reports'], env));
  await change(2);
  await run();
  // The others have gone on, to the last row.
  await compare(german(second.orders));
  const paused = await status();
  expect(paused.get('many-reports')).toMatchObject({
    connector: { state: 'PAUSED' },
    lag: { records: 6, bytes: expect.any(Number), behindMs: expect.any(Number) },
  });
  expect(paused.get('many-reports')!.lag!.bytes).toBeGreaterThan(0);
  for (const name of ['many-warehouse', 'many-mirror', 'many-changes', 'many-addresses'])
    expect(paused.get(name), name).toMatchObject({ connector: { state: 'RUNNING' }, lag: { records: 0, bytes: 0 } });

  await drained(place.sluice(['connectors', 'resume', 'many-reports'], env));
  await run();
  await compare(german((await sources()).orders));
  expect((await status()).get('many-reports')).toMatchObject({ connector: { state: 'RUNNING' }, lagRecords: 0 });
});
