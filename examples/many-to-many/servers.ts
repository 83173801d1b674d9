// npx node examples/many-to-many/servers.ts [directory]: the databases of pipeline.yaml, until Ctrl-C. Installs MySQL and MariaDB where they are missing.
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import mysql from 'mysql2/promise';
import pg from 'pg';
import { runPostgres } from '../../infra/local/embedded-postgres.ts';
import { runMysql } from '../../infra/local/mysql-server.ts';

const directory = process.argv[2] ?? '.sluice/many-to-many';
const isNew = !existsSync(directory);
const password = 'sluice';

const shop = `CREATE DATABASE shop; CREATE DATABASE mirror; USE shop;
  CREATE TABLE customers (id int PRIMARY KEY, name varchar(40), email varchar(80), country char(2));
  CREATE TABLE orders (id int PRIMARY KEY, customer int, country char(2), amount decimal(12,2));
  INSERT INTO customers VALUES (1, 'Aoife', 'aoife@example.com', 'IE'), (2, 'Jonas', 'jonas@example.com', 'DE'), (3, 'Ines', 'ines@example.com', 'PT');
  INSERT INTO orders VALUES (10, 1, 'IE', 129.90), (11, 2, 'DE', 42.50), (12, 3, 'PT', 81.75), (13, 2, 'DE', 7.00)`;
const crm = `CREATE DATABASE crm; CREATE DATABASE reports; USE crm;
  CREATE TABLE contacts (id int PRIMARY KEY, email varchar(80), phone varchar(20));
  INSERT INTO contacts VALUES (1, 'maya@example.com', '+1 555 0100'), (2, 'priya@example.com', '+44 20 7946 0000')`;
const billing = `CREATE TABLE invoices (id int PRIMARY KEY, order_id int, amount numeric(12,2), paid boolean);
  INSERT INTO invoices VALUES (100, 10, 129.90, true), (101, 11, 42.50, false)`;

const startMysql = async (flavour: 'mysql' | 'mariadb', sql: string) => {
  const place = join(directory, flavour);
  await mkdir(place, { recursive: true });
  const server = await runMysql({ flavour, directory: place, password });
  const { host, port, user } = server;
  if (isNew) {
    const client = await mysql.createConnection({ host, port, user, password, multipleStatements: true });
    await client.query(sql);
    await client.end();
  }
  return { url: (database: string) => `mysql://${user}:${password}@${host}:${port}/${database}`, stop: server.stop };
};

const startPostgres = async () => {
  await mkdir(join(directory, 'postgres'), { recursive: true });
  const settings = ['wal_level=logical', 'max_slot_wal_keep_size=1GB'];
  const server = await runPostgres({ directory: join(directory, 'postgres'), password, settings });
  const url = (database: string) => Object.assign(new URL(server.url), { pathname: `/${database}` }).href;
  const run = async (database: string, statements: readonly string[]) => {
    const client = new pg.Client(url(database));
    await client.connect();
    for (const statement of statements) await client.query(statement);
    await client.end();
  };
  if (isNew) {
    await run('postgres', ['CREATE DATABASE billing', 'CREATE DATABASE warehouse']);
    await run('billing', [billing]);
  }
  return { url, stop: server.stop };
};

// One after the other: a port that is free is taken before the next one looks.
const shopServer = await startMysql('mysql', shop);
const crmServer = await startMysql('mariadb', crm);
const postgres = await startPostgres();
const variables = {
  ...{ SHOP_URL: shopServer.url('shop'), MIRROR_URL: shopServer.url('mirror') },
  ...{ CRM_URL: crmServer.url('crm'), REPORTS_URL: crmServer.url('reports') },
  ...{ BILLING_URL: postgres.url('billing'), WAREHOUSE_URL: postgres.url('warehouse') },
};
for (const [name, url] of Object.entries(variables)) process.stdout.write(`export ${name}='${url}'\n`);
process.stdout.write('# They run until Ctrl-C, and keep their data.\n');
const stop = () =>
  void Promise.all([shopServer, crmServer, postgres].map((server) => server.stop())).then(() => process.exit());
process.once('SIGINT', stop).once('SIGTERM', stop);
