import { rm, truncate, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type PostgresServer, startPostgres } from '../kit/postgres-server.ts';
import { jsonLinesOf, queryRows } from '../kit/rows.ts';
import { makeWorkplace, messageOf } from '../kit/sluice.ts';

/** Every message says what, where and what to change; every exit code who has to do something. */

let postgres: PostgresServer;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres?.stop());

describe('a pipeline file that is wrong', () => {
  test('every problem at once, each with its line', async () => {
    await using place = await makeWorkplace();
    await place.file(
      'p.yaml',
      `name: p
sources:
  typed:
    connector: file
    every: 1m
    tasks: two
    config: { path: a.jsonl }
  coloured:
    connector: file
    every: 1m
    colour: red
    config: { path: b.jsonl }
  keyed:
    connector: file
    every: 1m
    config: { path: c.jsonl, fields: { x: int99 }, hue: blue }
  other:
    connector: fil
    every: 1m
processors:
  there: { from: [back], to: forth }
  again: { from: [forth], to: back }
  same: { from: [forth], to: elsewhere }
sinks:
  same: { connector: file, from: [elsewhere], config: { path: out } }
`,
    );
    for (const command of ['run', 'validate']) {
      const { code, ...said } = await place.sluice([command, 'p.yaml']);
      const message = messageOf({ code, ...said });
      expect(code).toBe(2);
      expect(message).toMatch(/p\.yaml:6: sources\.typed\.tasks: .*expected number/);
      expect(message).toMatch(/p\.yaml:11: sources\.coloured\.colour: unrecognized key/);
      expect(message).toMatch(/p\.yaml:16: sources\.keyed\.config\.hue: unrecognized key/);
      expect(message).toMatch(/p\.yaml:16: sources\.keyed\.config\.fields\.x: .*int99/);
      expect(message).toMatch(/p\.yaml:18: sources\.other\.connector: there is no source "fil"; sources are: file/);
      expect(message).toMatch(/p\.yaml:2[123]: processors\..*loop.*(forth -> back|back -> forth)/);
      expect(message).toMatch(/p\.yaml:25: sinks\.same: there is a connector p-same already.*another name/);
    }
    expect(place.processes()).toEqual([]);
  });

  test('a key twice, a file that is none, a file that is not there', async () => {
    await using place = await makeWorkplace();
    await place.file('twice.yaml', 'name: p\nsources:\n  a: { trigger: manual }\n  a: { trigger: manual }\n');
    await place.file('torn.yaml', 'name: p\nsources: [\n');
    const problems = [
      ['twice.yaml', /twice\.yaml:4: .*unique/],
      ['torn.yaml', /torn\.yaml:\d+: /],
      ['gone.yaml', /gone\.yaml/],
    ] as const;
    for (const [file, said] of problems) {
      const ended = await place.sluice(['run', file]);
      expect(messageOf(ended)).toMatch(said);
      expect(ended.code).toBe(2);
    }
  });
});

test('a secret that is not set is named; once it is, everything arrives', { timeout: 120_000 }, async () => {
  await using place = await makeWorkplace();
  await place.file('rows.jsonl', '{"id":1}\n{"id":2}\n');
  await place.file(
    'p.yaml',
    `name: secret
sources:
  rows: { connector: file, every: 1m, config: { path: rows.jsonl, topic: secret, fields: { id: int32 } } }
sinks:
  pg: { connector: postgres, from: [rows], config: { url: '\${env:NOPE}' } }
`,
  );
  const without = await place.sluice(['run', 'p.yaml']);
  expect(messageOf(without)).toMatch(
    /secret-pg.*SECRET_UNAVAILABLE.*\$\{env:NOPE\}: the variable is not set; set it where sluice is started/,
  );
  expect(without.code).toBe(1);
  const withIt = await place.sluice(['run', 'p.yaml'], { NOPE: postgres.url });
  expect(withIt.code, messageOf(withIt)).toBe(0);
  expect(await queryRows(postgres.url, 'select id from secret order by id')).toEqual([['1'], ['2']]);
});

test("a task file of RocketMQ Connect's runs as it is", { timeout: 120_000 }, async () => {
  await using place = await makeWorkplace();
  await place.file('rows.txt', 'one\ntwo\n');
  await place.file(
    'task.json',
    JSON.stringify({
      'connector-class': 'org.apache.rocketmq.connect.file.FileSourceConnector',
      filename: 'rows.txt',
      'source-record-converter': 'org.apache.rocketmq.connect.runtime.converter.JsonConverter',
      'connect.topicname': 'lines',
      'max.tasks': '1',
    }),
  );
  const ended = await place.sluice(['run', 'task.json']);
  expect(ended.code, messageOf(ended)).toBe(0);
  const tail = await place.sluice(['topics', 'tail', 'lines', '--json']);
  expect(JSON.parse(tail.stdout).result).toMatchObject([{ value: 'one' }, { value: 'two' }]);
});

describe('a source file', () => {
  const pipeline = (options: string) => `name: p
sources:
  rows:
    connector: file
    every: 1m
${options}    config: { path: rows.jsonl, fields: { id: int32 } }
sinks:
  out: { connector: file, from: [rows], config: { path: out } }
`;
  const rows = '{"id":1}\n{"id":"two"}\n{"id":3}\n';

  test('with a row that does not fit: it fails with the line, or the row is a dead letter', {
    timeout: 120_000,
  }, async () => {
    await using place = await makeWorkplace();
    await place.file('rows.jsonl', rows);
    await place.file('p.yaml', pipeline(''));
    const strict = await place.sluice(['run', 'p.yaml']);
    expect(messageOf(strict)).toMatch(
      /p-rows task 0 failed: RECORD_REJECTED: .*rows\.jsonl:2: id: expected int32, got "two".*errors\.tolerance to all/,
    );
    expect(messageOf(strict)).toContain('rows.jsonl');
    expect(strict.code).toBe(1);

    await place.file('p.yaml', pipeline('    errors: { tolerance: all }\n    deadLetter: true\n'));
    const tolerant = await place.sluice(['run', 'p.yaml']);
    expect(tolerant.code, messageOf(tolerant)).toBe(0);
    expect(await jsonLinesOf(place.path('out/rows'))).toEqual([{ id: 1 }, { id: 3 }]);
    const letters = await place.sluice(['topics', 'tail', 'p-rows.dlq', '--json']);
    const [letter, ...others] = JSON.parse(letters.stdout).result;
    expect(others).toEqual([]);
    expect(letter.headers['__connect.errors.exception.message']).toMatch(/id.*"two"/);
    expect(JSON.stringify(letter)).toMatch(/line.{1,6}2/);
  });

  test('truncated between two runs: the choices are named, nothing is read', { timeout: 180_000 }, async () => {
    await using place = await makeWorkplace();
    const whole = '{"id":1}\n{"id":2}\n{"id":3}\n';
    const file = await place.file('rows.jsonl', whole);
    await place.file('p.yaml', pipeline(''));
    expect((await place.sluice(['run', 'p.yaml'])).code).toBe(0);
    await truncate(file, 9);
    const lost = await place.sluice(['run', 'p.yaml']);
    expect(messageOf(lost)).toMatch(
      /LOST_POSITION: .*rows\.jsonl was read up to byte 27 \(line 3\).*Restore the file, or .*sluice offsets reset/,
    );
    expect(lost.code).toBe(1);
    await writeFile(file, `${whole}{"id":4}\n`);
    const restored = await place.sluice(['run', 'p.yaml']);
    expect(restored.code, messageOf(restored)).toBe(0);
    expect(await jsonLinesOf(place.path('out/rows'))).toEqual([1, 2, 3, 4].map((id) => ({ id })));

    await rm(file);
    const gone = await place.sluice(['run', 'p.yaml']);
    expect(messageOf(gone)).toMatch(/rows\.jsonl/);
    expect(gone.code).toBe(1);
  });
});
