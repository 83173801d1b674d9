import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadPipelineFile } from '../../infra/pipeline-file.ts';
import { messageOf } from './constructs/stack.ts';

const directory = mkdtempSync(join(tmpdir(), 'sluice-triggers-'));

const load = (source: string, sink = '') => {
  const path = join(directory, 'p.yaml');
  const text = `name: p
sources:
  a:
    connector: file
    config: { path: /data/a.jsonl }
${source.replace(/^/gm, '    ')}
sinks:
  out:
    connector: file
    from: [a]
    config: { path: /out }
${sink.replace(/^/gm, '    ')}
`;
  writeFileSync(path, text);
  return loadPipelineFile(path);
};

const problemsOf = (source: string, sink?: string): readonly string[] =>
  messageOf(() => load(source, sink))
    .replaceAll(`${directory}/p.yaml:`, '')
    .split('\n');

describe('what starts the runs of a source', () => {
  it.each([
    ['every: 5m', 'every 300 s'],
    ["cron: '0 2 * * ? *'", 'cron 0 2 * * ? *'],
    ["cron: '0 2 * * ? *'\ntimeZone: Europe/Berlin\nwindow: 15m", 'cron 0 2 * * ? * Europe/Berlin'],
    ['trigger: manual', 'manual'],
    ['trigger: continuous', 'continuous'],
    ['trigger: { s3: my-bucket }', 's3://my-bucket/'],
    ['trigger: { s3: my-bucket, prefix: in/, suffix: .csv }', 's3://my-bucket/in/*.csv'],
    [
      'trigger: { sqs: arn:aws:sqs:eu-central-1:123456789012:orders }',
      'sqs arn:aws:sqs:eu-central-1:123456789012:orders',
    ],
  ])('%s', (text, description) => {
    expect(load(text).sources.a!.trigger.description).toBe(description);
  });

  it('of a reader of the log, besides', () => {
    const { trigger } = load('every: 1m', 'trigger: { backlog: { bytes: 64MiB, atMost: 1h } }').sinks.out!;
    expect(trigger!._parts.spec).toEqual({ backlog: { bytes: 64 * 2 ** 20, atMostMs: 3_600_000 } });
    expect(load('every: 1m').sinks.out!.trigger, 'new data, if it says none').toBeUndefined();
  });
});

describe('what is refused, with its line', () => {
  const forms = 'use manual, continuous, { s3: my-bucket, prefix: in/ } or { sqs: the ARN of a queue }';

  it.each([
    [
      "cron: '0 25 * * ? *'",
      [
        '6: sources.a.cron: cron "0 25 * * ? *" is not possible: hours is "25": use 0-23, *, ranges, lists and steps such as 0/15',
      ],
    ],
    [
      "cron: '0 2 * * *'\ntimeZone: Europe/Berln\nwindow: 25h",
      [
        expect.stringMatching(/^6: sources.a.cron: .* are "0 2 \* \* \? \*" here$/),
        '7: sources.a.timeZone: there is no time zone "Europe/Berln"; use a name such as Europe/Berlin or UTC',
        '8: sources.a.window: a window of 1500 minutes is not possible; use whole minutes, 1 to 1440',
      ],
    ],
    [
      'every: 1m\ntimeZone: UTC\nwindow: 1m',
      ['7: sources.a.timeZone: it goes with `cron` only', '8: sources.a.window: it goes with `cron` only'],
    ],
    ["every: 1m\ncron: '0 2 * * ? *'", ['3: sources.a: give one of `every: 1m` (or longer), `cron` and `trigger`']],
    ['tasks: 1', ['3: sources.a: give one of `every: 1m` (or longer), `cron` and `trigger`']],
    ['trigger: always', [`6: sources.a.trigger: ${forms}`]],
    ['trigger: { s3: my-bucket, prefx: in/ }', ['6: sources.a.trigger.prefx: unrecognized key "prefx"']],
    ['trigger: { backlog: { bytes: 1MiB, atMost: 1h } }', [`6: sources.a.trigger: ${forms}`]],
    [
      'trigger:\n  s3: My_Bucket',
      ['7: sources.a.trigger.s3: "My_Bucket" is no name of a bucket: 3 to 63 lower-case letters, digits, "." and "-"'],
    ],
    [
      'trigger: { sqs: orders }',
      [
        '6: sources.a.trigger.sqs: "orders" is no ARN of a queue; it looks like arn:aws:sqs:eu-central-1:123456789012:orders',
      ],
    ],
  ])('%s', (text, problems) => {
    expect(problemsOf(text)).toEqual(problems);
  });

  it('of a reader of the log', () => {
    const also = `${forms}, or { backlog: { bytes: 64MiB, atMost: 1h } }`;
    expect(problemsOf('every: 1m', 'trigger: { backlog: { bytes: 64, atMost: 1h } }')).toEqual([
      `12: sinks.out.trigger: ${also}`,
    ]);
    expect(problemsOf('every: 1m', 'trigger: { backlog: { bytes: 64MiB, atMost: 1s } }')).toEqual([
      '12: sinks.out.trigger.backlog: a backlog of 67108864 bytes, at most 1000 ms, is not possible: it is looked at once a minute; give at least 1 byte and 1 minute',
    ]);
  });
});
