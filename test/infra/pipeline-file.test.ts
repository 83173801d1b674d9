import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { sourcePlugins } from '../../infra/connectors.ts';
import { loadPipelineFile, loadPipelineFiles } from '../../infra/pipeline-file.ts';
import { sourceTopics } from '../../infra/pipeline-nodes.ts';
import { pipelineSchemaJson, readPipelineSchema } from '../../infra/pipeline-schema-json.ts';
import { messageOf } from './constructs/stack.ts';

const directory = mkdtempSync(join(tmpdir(), 'sluice-pipelines-'));

const write = (name: string, text: string): string => {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
};

const load = (text: string) => loadPipelineFile(write('p.yaml', text));

/** Its lines, without the directory. */
const problemsOf = (...texts: string[]): readonly string[] => {
  const files = texts.map((text, at) => write(at === 0 ? 'p.yaml' : `p${at}.yaml`, text));
  return messageOf(() => loadPipelineFiles(files))
    .replaceAll(`${directory}/`, '')
    .split('\n');
};

const good = `name: shop
topics:
  orders: { queues: 4, retention: 1d }
sources:
  orders:
    connector: file
    every: 5m
    tasks: 2
    config: { path: /data/orders.jsonl, fields: { id: int64, total: 'decimal(12,2)?' } }
processors:
  copy: { from: [orders], to: copied }
sinks:
  store:
    connector: postgres
    from: [orders, copied]
    delivery: exactly-once
    deadLetter: true
    errors: { retryTimeout: 2m }
    config:
      url: \${env:SHOP_URL}
  letters: { connector: file, from: [shop-store.dlq], trigger: manual, config: { path: /letters } }
direct:
  archive:
    every: 1h
    timeout: 10m
    memoryMb: 1024
    source: { connector: file, config: { path: /data/a.csv } }
    sink: { connector: file, config: { path: /archive, format: parquet } }
`;

describe('a pipeline file', () => {
  it('is read with everything in it', () => {
    const model = load(good);
    expect(model).toMatchObject({ name: 'shop', topics: { orders: { queues: 4 } }, ignored: [] });
    expect(model.topics.orders!.retention!.toHours()).toBe(24);
    const { orders } = model.sources;
    expect(orders).toMatchObject({ tasks: 2, connector: { plugin: 'file', role: 'source' } });
    expect(orders!.trigger.description).toBe('every 300 s');
    expect(orders!.connector.config).toMatchObject({ fields: { id: 'int64', total: 'decimal(12,2)?' } });
    expect(model.processors.copy).toMatchObject({ from: ['orders'], to: 'copied' });
    const { store, letters } = model.sinks;
    expect(store).toMatchObject({ from: ['orders', 'copied'], delivery: 'exactly-once', deadLetter: true });
    expect(store!.errors!.retryTimeout!.toMilliseconds()).toBe(120_000);
    expect(store!.trigger).toBeUndefined();
    expect(letters!.trigger!.description).toBe('manual');
    const { archive } = model.direct;
    expect(archive).toMatchObject({ memoryMb: 1024, source: { plugin: 'file' }, sink: { plugin: 'file' } });
    expect(archive!.timeout!.toMinutes()).toBe(10);
  });

  it('means paths from where it stands', () => {
    write('same.ts', "export default { name: 'same', stage: 'TRANSFORMATION', apply: (batch) => ({ batch }) };\n");
    const model = load(`name: p
sources:
  orders: { connector: file, every: 1m, transforms: [./same.ts], config: { path: in/, topic: orders } }
sinks:
  lake: { connector: file, from: [orders], transforms: [same.ts, ./same.ts], config: { path: ../lake } }
  bucket: { connector: file, from: [orders], config: { path: 's3://lake/orders/' } }
`);
    const same = join(directory, 'same.ts');
    expect(model.sources.orders).toMatchObject({
      transforms: [same],
      connector: { config: { path: `${directory}/in/` } },
    });
    expect(model.sinks.lake).toMatchObject({
      transforms: [same, same],
      connector: { config: { path: join(directory, '../lake') } },
    });
    expect(model.sinks.bucket!.connector.config).toEqual({ path: 's3://lake/orders/' });
  });

  it('leaves references as they are', () => {
    expect(load(good).sinks.store!.connector.config).toEqual({ url: '${env:SHOP_URL}' });
  });

  it('says by a node all the topics that it writes, and by a topic that one', () => {
    const model = load(`name: p
sources:
  first: { connector: file, every: 1m, config: { path: /x.jsonl, topic: a } }
sinks:
  both: { connector: file, from: [first, a], config: { path: /out } }
`);
    expect(model.sinks.both!.from).toEqual(['a']);
  });

  it('may read what another file of the app writes', () => {
    const reader = 'name: reader\nsinks:\n  out: { connector: file, from: [orders], config: { path: /out } }\n';
    const [, model] = loadPipelineFiles([write('p.yaml', good), write('reader.yaml', reader)]);
    expect(model!.sinks.out!.from).toEqual(['orders']);
    expect(problemsOf(reader)).toEqual([
      'p.yaml:1: the pipeline has no source; give `sources` or `direct`',
      'p.yaml:3: sinks.out.from.0: there is no source or processor "orders", and no source or processor writes topic "orders"; there are no topics',
    ]);
  });

  it("takes Kafka Connect's spelling of the framework's keys inside a config", () => {
    const model = load(`name: p
sources:
  lines:
    every: 1m
    config:
      connector.class: FileStreamSource
      tasks.max: '3'
      file: /var/log/app.log
      topic: lines
      batch.size: 500
      value.converter: org.apache.kafka.connect.storage.StringConverter
sinks:
  out:
    connector: postgres
    config:
      topics: lines
      url: postgres://u@h/d
      max.tasks: 2
      errors.tolerance: all
      errors.retry.timeout: -1
      errors.retry.delay.max.ms: 5000
      errors.deadletterqueue.topic.name: letters
      exactly.once.support: required
`);
    expect(model.sources.lines).toMatchObject({ tasks: 3, maxRecords: 500 });
    const { config } = model.sources.lines!.connector;
    expect(config).toEqual({ format: 'text', follow: true, path: '/var/log/app.log', topic: 'lines' });
    expect(model.ignored).toEqual(['value.converter']);
    expect(model.sinks.out).toMatchObject({ from: ['lines'], tasks: 2, delivery: 'exactly-once' });
    expect(model.sinks.out!.errors).toMatchObject({ tolerance: 'all', deadLetterTopic: 'letters' });
    expect(model.sinks.out!.errors!.retryTimeout!.toMilliseconds()).toBe(Number.MAX_SAFE_INTEGER);
    expect(model.sinks.out!.errors!.retryDelayMax!.toMilliseconds()).toBe(5000);
    expect(model.sinks.out!.connector.config).toEqual({ url: 'postgres://u@h/d' });
  });
});

describe('what is refused, with its line', () => {
  it('every problem at once, unknown keys and wrong types among them', () => {
    expect(
      problemsOf(`name: shop
source: {}
sources:
  orders:
    connector: file
    every: 30s
    task: 2
    config: { path: /x.jsonl }
  lines:
    connector: file
    every: 30s
    config:
      path: 7
      fields:
        id: int46
      tabel: x
sinks:
  store:
    connector: postgres
    from: [lines]
    tasks: two
    config: { url: postgres://u@h/d }
`),
    ).toEqual([
      'p.yaml:2: source: unrecognized key "source"',
      'p.yaml:7: sources.orders.task: unrecognized key "task"',
      'p.yaml:11: sources.lines.every: 30s is not possible, a schedule has whole minutes; give 1m or more',
      'p.yaml:13: sources.lines.config.path: invalid input: expected string, received number',
      expect.stringMatching(/^p.yaml:15: sources.lines.config.fields.id: "int46" is no type; use int8/),
      'p.yaml:16: sources.lines.config.tabel: unrecognized key "tabel"',
      'p.yaml:21: sinks.store.tasks: invalid input: expected number, received string',
    ]);
  });

  it.each([
    ['a syntax error', 'name: p\nsources:\n  a: [1, 2\n', /^p.yaml:\d: Flow sequence in block collection must be/],
    ['a key twice', 'name: p\nsources: {}\nname: q\n', /^p.yaml:3: Map keys must be unique/],
    ['an unknown anchor', 'name: *p\n', /^p.yaml:1: Unresolved alias/],
    ['no mapping', '- a\n', /^p.yaml:1: invalid input: expected object, received array/],
    ['nothing', '', /^p.yaml:1: invalid input: expected object, received null/],
    ['no name', 'sources: {}\n', /^p.yaml:1: name: invalid input: expected string, received undefined/],
    ['an illegal name', 'name: a/b\n', /^p.yaml:1: name: use letters, digits/],
    ['no sources', 'name: p\n', /^p.yaml:1: the pipeline has no source; give `sources` or `direct`$/],
  ])('%s', (_what, text, problem) => {
    expect(problemsOf(text)[0]).toMatch(problem);
  });

  const pipeline = (sources: string, rest = '') => `name: p\nsources:\n${sources}${rest}`;
  const source = (name: string, more = '') =>
    `  ${name}: { connector: file, every: 1m, ${more}config: { path: /${name}.jsonl } }\n`;

  it('a node with an illegal name', () => {
    expect(problemsOf(pipeline(source('a') + source('b/c')))).toEqual([
      'p.yaml:4: sources.b/c: "b/c" is not a name; use letters, digits, ".", "_" and "-", at most 200',
    ]);
  });

  it('a plugin that there is not, or none', () => {
    expect(problemsOf(pipeline('  a: { connector: fil, every: 1m }\n  b: { every: 1m }\n'))).toEqual([
      'p.yaml:3: sources.a.connector: there is no source "fil"; sources are: file, mysql-cdc, postgres-cdc, mysql-query, postgres-query, or a file of your own such as ./my-source.ts',
      "p.yaml:4: sources.b.connector: give the source's plugin: file, mysql-cdc, postgres-cdc, mysql-query, postgres-query, or a file of your own such as ./my-source.ts",
    ]);
    const sinks = 'sinks:\n  x: { connector: oracle, from: [a] }\n';
    expect(problemsOf(pipeline(source('a'), sinks))).toEqual([
      'p.yaml:5: sinks.x.connector: there is no sink "oracle"; sinks are: file, postgres, mysql, or a file of your own such as ./my-sink.ts',
    ]);
  });

  it('a connector or a transform by a file that holds none', () => {
    write('broken.ts', 'export default {;\n');
    const a = '  a: { connector: ./nowhere.ts, every: 1m }\n';
    const b = `  b: { connector: file, every: 1m, transforms: [./broken.ts], config: { path: ${directory}/b.csv } }\n`;
    expect(problemsOf(pipeline(a + b))).toEqual([
      'p.yaml:3: sources.a.connector: there is no file nowhere.ts',
      'p.yaml:4: sources.b.transforms.0: broken.ts:1:17: Expected identifier but found ";"',
    ]);
  });

  it('a class that there is not, or of the other kind', () => {
    const a = '  a: { every: 1m, config: { connector.class: io.debezium.Mysql } }\n';
    const b = '  b: { every: 1m, config: { connector.class: FileStreamSink, file: /x } }\n';
    expect(problemsOf(pipeline(a + b))).toEqual([
      expect.stringMatching(
        /^p.yaml:3: sources.a.config.connector.class: there is no connector io.debezium.Mysql; known/,
      ),
      'p.yaml:4: sources.b.config.connector.class: FileStreamSink is a sink',
    ]);
  });

  it('no trigger, or two', () => {
    const needed = 'give one of `every: 1m` (or longer), `cron` and `trigger`';
    expect(problemsOf(pipeline('  a: { connector: file, config: { path: /x } }\n'))).toEqual([
      `p.yaml:3: sources.a: ${needed}`,
    ]);
    expect(problemsOf(pipeline(source('a', 'trigger: manual, ')))).toEqual([`p.yaml:3: sources.a: ${needed}`]);
  });

  it('a from that nobody writes, with its place in the list', () => {
    const sinks = 'sinks:\n  x:\n    connector: file\n    from:\n      - a\n      - b\n    config: { path: /out }\n';
    expect(problemsOf(pipeline(source('a'), sinks))).toEqual([
      'p.yaml:9: sinks.x.from.1: there is no source or processor "b" (there are a), and no source or processor writes topic "b"; topics are: a',
    ]);
  });

  it('only what is wrong, not what a source that could not be read might have written', () => {
    const broken = '  a: { connector: file, every: 1m, config: { path: 7 } }\n';
    const sinks = 'sinks:\n  x: { connector: file, from: [a, b], config: { path: /out } }\n';
    expect(problemsOf(pipeline(broken, sinks))).toEqual([
      'p.yaml:3: sources.a.config.path: invalid input: expected string, received number',
    ]);
  });

  it('a from that means a node and another topic', () => {
    const one = '  one: { connector: file, every: 1m, config: { path: /x.jsonl, topic: two } }\n';
    const two = '  two: { connector: file, every: 1m, config: { path: /x.jsonl, topic: three } }\n';
    const sinks = 'sinks:\n  x: { connector: file, from: [two], config: { path: /out } }\n';
    expect(problemsOf(pipeline(one + two, sinks))).toEqual([
      'p.yaml:6: sinks.x.from.0: "two" is a node that writes three, and a topic that another one writes: rename one of them',
    ]);
  });

  it('no from', () => {
    const sinks = 'sinks:\n  x: { connector: file, config: { path: /out } }\n';
    expect(problemsOf(pipeline(source('a'), sinks))).toEqual([
      'p.yaml:5: sinks.x.from: give the sources, processors or topics that it reads',
    ]);
  });

  it('one name for two connectors, in another file too', () => {
    const sinks = 'sinks:\n  a: { connector: file, from: [a], config: { path: /out } }\n';
    expect(problemsOf(pipeline(source('a'), sinks))).toEqual([
      `p.yaml:5: sinks.a: there is a connector p-a already, p.yaml sources.a: give one of them another name`,
    ]);
    expect(problemsOf(pipeline(source('a')), pipeline(source('a')))).toEqual([
      'p1.yaml:3: sources.a: there is a connector p-a already, p.yaml sources.a: give one of them another name',
    ]);
  });

  it('processors in a loop', () => {
    const processors = 'processors:\n  there: { from: [a, y], to: x }\n  back: { from: [x], to: y }\n';
    expect(problemsOf(pipeline(source('a'), processors))).toEqual([
      'p.yaml:5: processors.there.to: the processors form a loop, x -> y -> x: a record would go round for ever; let one of them write to a topic of its own',
    ]);
  });

  it('a delivery that the pair can not give', () => {
    const [file] = sourcePlugins;
    const replay = file!.replay;
    onTestFinished(() => {
      Object.assign(file!, { replay });
    });
    Object.assign(file!, { replay: 'none' });
    const direct = `direct:
  x:
    every: 1m
    delivery: exactly-once
    source: { connector: file, config: { path: /x } }
    sink: { connector: file, config: { path: /out } }
`;
    expect(problemsOf(`name: p\n${direct}`)).toEqual([
      "p.yaml:5: direct.x.delivery: delivery exactly-once is not possible: the source's replay is none, so the pair gives at-least-once at best; ask for at-least-once or leave delivery out",
    ]);
  });

  it('options of a topic that it does not write', () => {
    expect(problemsOf(`${pipeline(source('a'))}topics:\n  b: { queues: 2 }\n`)).toEqual([
      'p.yaml:5: topics.b: no source or processor of this pipeline writes it; it writes a',
    ]);
  });

  it('what is said twice', () => {
    const sinks = `sinks:
  x:
    connector: file
    tasks: 2
    from: [a]
    deadLetter: true
    errors: { tolerance: none }
    config: { path: /out, tasks.max: 3, topics: a, errors.tolerance: all }
`;
    expect(problemsOf(pipeline(source('a'), sinks))).toEqual([
      'p.yaml:7: sinks.x.tasks: config says it too: give one of both',
      'p.yaml:8: sinks.x.from: config says a: give one of both',
      'p.yaml:10: sinks.x.errors: config says it too: give one of both',
    ]);
    const letters = sinks.replace(/\{ path: \/out.*\}/, '{ path: /out }').replace('    tasks: 2\n', '');
    expect(problemsOf(pipeline(source('a'), letters))).toEqual([
      'p.yaml:9: sinks.x.errors.tolerance: none never writes a dead letter; leave it out, or deadLetter',
    ]);
  });

  it('a file that is not there', () => {
    expect(messageOf(() => loadPipelineFile(join(directory, 'none.yaml')))).toContain("can't read the pipeline file");
  });
});

describe('a task file', () => {
  const rocketmq = (kind: 'Source' | 'Sink') => ({
    'connector-class': `org.apache.rocketmq.connect.file.File${kind}Connector`,
    topic: 'fileTopic',
    filename: '/opt/source-file/source-file.txt',
    'source-record-converter': 'org.apache.rocketmq.connect.runtime.converter.JsonConverter',
  });
  const loadTask = (name: string, task: object) => loadPipelineFile(write(name, JSON.stringify(task, null, 2)));

  it('of the old RocketMQ Connect runs as it is', () => {
    const source = loadTask('file-source.json', rocketmq('Source'));
    expect(source.name).toBe('file-source');
    expect(Object.keys(source.sources)).toEqual(['file-source']);
    const { connector, trigger } = source.sources['file-source']!;
    expect(connector.config).toEqual({
      format: 'text',
      follow: true,
      path: '/opt/source-file/source-file.txt',
      topic: 'fileTopic',
    });
    expect(sourceTopics(connector)).toEqual(['fileTopic']);
    expect(trigger.description).toBe('every 60 s');
    expect(source.ignored).toEqual(['source-record-converter']);

    const sink = loadTask('file-sink.json', rocketmq('Sink'));
    expect(sink.sinks['file-sink']!.from).toEqual(['fileTopic']);
    expect(sink.sinks['file-sink']!.connector.config).toEqual({
      format: 'text',
      path: '/opt/source-file/source-file.txt',
    });
    expect(sink.externalTopics).toEqual(['fileTopic']);
  });

  it.each([
    ['connect.topicname', { 'connect.topicname': 'fileTopic' }],
    ['connect.topicnames', { 'connect.topicnames': 'fileTopic' }],
    ['topicNames', { topicNames: 'fileTopic' }],
    ['topics', { topics: 'fileTopic' }],
  ])('of the present RocketMQ Connect or Kafka Connect, by %s', (_key, topics) => {
    const sink = loadTask('s.json', {
      'connector.class': 'org.apache.rocketmq.connect.file.FileSinkConnector',
      'max.tasks': 2,
      filename: '/out',
      ...topics,
    });
    expect(sink.sinks.s).toMatchObject({ tasks: 2, from: ['fileTopic'] });
  });

  it('of Kafka Connect is called by its name, flat or as it is posted', () => {
    const config = { 'connector.class': 'FileStreamSource', 'tasks.max': '1', file: '/x.txt', topic: 't' };
    for (const task of [
      { name: 'local-file', ...config },
      { name: 'local-file', config },
    ]) {
      const model = loadTask('any.json', task);
      expect(model.name).toBe('local-file');
      expect(sourceTopics(model.sources['local-file']!.connector)).toEqual(['t']);
    }
  });

  it('has the lines of its own keys in what is refused', () => {
    const bad = write(
      'bad.json',
      JSON.stringify(
        { 'connector.class': 'FileStreamSource', 'tasks.max': 'x', file: 7, transforms: 'a', colour: 1 },
        null,
        2,
      ),
    );
    expect(
      messageOf(() => loadPipelineFile(bad))
        .replaceAll(`${directory}/`, '')
        .split('\n'),
    ).toEqual([
      'bad.json:3: tasks.max: expected a whole number of at least 1, got "x"',
      'bad.json:4: file: invalid input: expected string, received number',
      'bad.json:5: transforms: transforms is not supported yet',
      'bad.json:6: colour: unrecognized key "colour"',
    ]);
    const unknown = write('unknown.json', JSON.stringify({ config: { 'connector-class': 'x.Y' } }, null, 2));
    expect(messageOf(() => loadPipelineFile(unknown)).replaceAll(`${directory}/`, '')).toMatch(
      /^unknown.json:3: config.connector-class: there is no connector x.Y; known are: /,
    );
  });

  it('is told from a pipeline in JSON', () => {
    const config = { path: '/x.jsonl' };
    const model = loadTask('p.json', { name: 'p', sources: { a: { connector: 'file', every: '1m', config } } });
    expect(Object.keys(model.sources)).toEqual(['a']);
  });
});

describe('the quickstart', () => {
  it('is good', () => {
    const model = loadPipelineFile('infra/pipelines/quickstart.yaml');
    expect(Object.keys(model.sources)).toEqual(['movies', 'flights']);
    for (const sink of Object.values(model.sinks)) expect(sink.from).toEqual(['movies', 'flights']);
  });

  it('declares every field of its data', () => {
    const model = loadPipelineFile('infra/pipelines/quickstart.yaml');
    for (const { connector } of Object.values(model.sources)) {
      const { path, fields } = connector.config as { path: string; fields: object };
      const records = JSON.parse(readFileSync(path, 'utf8')) as object[];
      expect(new Set(records.flatMap((record) => Object.keys(record)))).toEqual(new Set(Object.keys(fields)));
    }
  });
});

it('is written as docs/writing-a-pipeline.md says', () => {
  const page = readFileSync('docs/writing-a-pipeline.md', 'utf8');
  const block = (language: string) => page.split(`\`\`\`${language}\n`)[1]!.split('```')[0]!;
  expect(Object.keys(load(block('yaml')).sinks)).toEqual(['store', 'archive']);
  expect(Object.keys(loadPipelineFile(write('task.json', block('json'))).sources)).toEqual(['task']);
});

it('publishes the JSON schema that is in use', () => {
  expect(readPipelineSchema(), 'docs/pipeline.schema.json is out of date: npm run build writes it').toBe(
    pipelineSchemaJson(),
  );
});
