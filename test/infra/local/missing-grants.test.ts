import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DynamoDBClient, ListTablesCommand } from '@aws-sdk/client-dynamodb';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Host, startHost } from '../../../infra/local/host.ts';
import { synthPipelines } from '../../../infra/synth.ts';
import { readStates } from '../../../shared/management/status.ts';
import { dynamoTable } from '../../../shared/state/dynamodb/table.ts';

const pipeline = `name: p
sources:
  rows:
    connector: file
    every: 1m
    config: { path: 's3://files/in/*.jsonl', topic: rows, keyFields: [id], fields: { id: string, text: string } }
processors:
  copy: { from: [rows], to: copied }
sinks:
  files: { connector: file, from: [copied], config: { path: 's3://files/out/' } }
`;

/** Too much to stand in the table itself, however it is compressed. */
const lines = Array.from(
  { length: 2_000 },
  (_, n) => `${JSON.stringify({ id: `k${n}`, text: String(Math.imul(n + 1, 2654435761)).repeat(4) })}\n`,
);

/** In the order in which they run, with the grants that such a run does not come to: an operator's reset, dead letters, a write given up. */
const connectors = {
  'p-rows': ['dynamodb:DeleteItem'],
  'p-copy': ['dynamodb:DeleteItem'],
  'p-files': ['s3:AbortMultipartUpload'],
};
type Connector = keyof typeof connectors;
const names = Object.keys(connectors) as Connector[];

interface Template {
  Resources: Record<string, { Type: string; Properties: Record<string, unknown> }>;
}

interface Statement {
  Action: string | string[];
}

let place: string;
let template: Template;
beforeAll(async () => {
  place = await mkdtemp(join(tmpdir(), 'sluice-grants-'));
  await writeFile(join(place, 'p.yaml'), pipeline);
  const outdir = join(place, 'cdk.out');
  await synthPipelines({ files: [join(place, 'p.yaml')], outdir });
  template = JSON.parse(await readFile(join(outdir, 'Sluice.template.json'), 'utf8'));
  // Nothing wakes the next connector: it would have done its work before its own test.
  for (const [id, { Type }] of Object.entries(template.Resources))
    if (Type === 'AWS::Lambda::EventSourceMapping') delete template.Resources[id];
  const stateDir = join(place, 'before p-rows');
  const input = join(stateDir, 's3', 'files', 'in');
  await mkdir(input, { recursive: true });
  // The deploy starts a run of each connector: there is nothing to do yet.
  const host = await start(stateDir, template);
  await host.idle();
  await host.stop();
  await writeFile(join(input, 'a.jsonl'), lines.join(''));
});
afterAll(() => rm(place, { recursive: true, force: true }));

const functionIdOf = (connector: Connector): string =>
  Object.entries(template.Resources).find(([, { Properties }]) => {
    const { Environment } = Properties as { Environment?: { Variables?: { SLUICE_CONNECTOR?: string } } };
    return Environment?.Variables?.SLUICE_CONNECTOR === connector;
  })![0];

const statementsOf = ({ Resources }: Template, connector: Connector): Statement[] => {
  const { Role } = Resources[functionIdOf(connector)]!.Properties as { Role: { 'Fn::GetAtt': [string, string] } };
  const { Policies } = Resources[Role['Fn::GetAtt'][0]]!.Properties as {
    Policies: { PolicyDocument: { Statement: Statement[] } }[];
  };
  return Policies.flatMap(({ PolicyDocument }) => PolicyDocument.Statement);
};

const start = async (stateDir: string, of: Template): Promise<Host> => {
  const assembly = join(place, 'cdk.out');
  await writeFile(join(assembly, 'Sluice.template.json'), JSON.stringify(of));
  return startHost({ assembly, stateDir, fireAtStart: false, minuteMs: 3_600_000, onLog: () => {} });
};

/** Runs one connector to its end; what went wrong is returned. */
const runOne = async (stateDir: string, connector: Connector, of: Template): Promise<readonly string[]> => {
  const host = await start(stateDir, of);
  const client = new DynamoDBClient({ endpoint: host.dynamodb.endpoint, region: 'us-east-1' });
  try {
    const { name } = host.functions.find(({ logicalId }) => logicalId === functionIdOf(connector))!;
    for (let more = true; more; ) {
      const { payload, functionError } = await host.invoke(name, { connector, task: 0, reason: 'manual' });
      if (functionError) return [payload];
      more = /"more"/.test(payload);
    }
    const { TableNames = [] } = await client.send(new ListTablesCommand({}));
    const states = await readStates(dynamoTable({ client, tableName: TableNames[0]! }), Date.now());
    return states.flatMap(({ tasks }) => tasks.flatMap(({ row: { trace } }) => trace ?? []));
  } finally {
    client.destroy();
    await host.stop();
  }
};

describe.each(names)('%s', (connector) => {
  const stateBefore = () => join(place, `before ${connector}`);

  test('runs with what it is granted', async () => {
    const next = names[names.indexOf(connector) + 1];
    const stateDir = join(place, next === undefined ? 'end' : `before ${next}`);
    await cp(stateBefore(), stateDir, { recursive: true });
    expect(await runOne(stateDir, connector, template)).toEqual([]);
  });

  test('fails without any one of its grants, and names it', { timeout: 300_000 }, async () => {
    const granted = new Set(statementsOf(template, connector).flatMap(({ Action }) => Action));
    const unneeded: string[] = [];
    for (const action of granted) {
      // What it prints is taken by the host itself.
      if (action.startsWith('logs:')) continue;
      const changed = structuredClone(template);
      for (const statement of statementsOf(changed, connector))
        statement.Action = [statement.Action].flat().filter((each) => each !== action);
      const stateDir = join(place, 'without');
      await cp(stateBefore(), stateDir, { recursive: true });
      const problems = await runOne(stateDir, connector, changed).catch(({ message }: Error) => [message]);
      await rm(stateDir, { recursive: true });
      if (problems.length === 0) unneeded.push(action);
      else expect(problems.join()).toContain(action);
    }
    expect(unneeded).toEqual(connectors[connector]);
  });
});
