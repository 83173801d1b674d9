import { expect } from 'vitest';
import type { Difference } from '../../infra/cli/verify-settle.ts';
import type { TableResult } from '../../infra/cli/verify-table.ts';
import type { Database } from './database.ts';
import { type Ended, envelopeOf, messageOf } from './sluice.ts';

const sourceConfig = ({ schema }: Database, tables: readonly string[]): string => {
  const names = tables.map((table) => `${schema}.${table}`);
  return `{ url: '\${env:SOURCE_URL}', topicPrefix: s, tables: [${names.join(', ')}] }`;
};

const sourceOf = ({ system }: Database) => (system === 'postgres' ? 'postgres-cdc' : 'mysql-cdc');
const sinkOf = ({ system }: Database) => (system === 'postgres' ? 'postgres' : 'mysql');
const sinkConfig = `{ url: '\${env:SINK_URL}', table: '\${table}' }`;

/** A pipeline that copies tables and follows their changes. */
export const copyPipeline = (
  source: Database,
  sink: Database,
  tables: readonly string[],
  through: 'direct' | 'the log',
  name = 'p',
): string => {
  const options = 'every: 1m, timeout: 30s';
  if (through === 'direct')
    return `name: ${name}
direct:
  copy:
    every: 1m
    timeout: 30s
    transforms: [unwrap]
    source: { connector: ${sourceOf(source)}, config: ${sourceConfig(source, tables)} }
    sink: { connector: ${sinkOf(sink)}, config: ${sinkConfig} }
`;
  return `name: ${name}
sources:
  from: { connector: ${sourceOf(source)}, ${options}, config: ${sourceConfig(source, tables)} }
sinks:
  to: { connector: ${sinkOf(sink)}, from: [from], timeout: 30s, config: ${sinkConfig} }
`;
};

export const environmentOf = (source: Database, sink: Database) => ({
  SOURCE_URL: source.url,
  SINK_URL: sink.url,
});

/** What `sluice verify --json` tells of a table. */
export interface VerifiedTable extends Pick<TableResult, 'rows' | 'inFlight' | 'kept'> {
  readonly table: string;
  readonly destination: string;
  readonly differences: readonly Difference[];
  readonly repaired?: number;
}

/** Of a run that could compare; one that could not says why. */
export const verifiedOf = (ended: Ended): readonly VerifiedTable[] => {
  const { tables, error } = envelopeOf(ended).result as { tables: readonly VerifiedTable[]; error?: object };
  expect(error, messageOf(ended)).toBeUndefined();
  return tables;
};

/** By table, without its schema: `different 1/a name,price`, in the order of the texts. */
export const differencesOf = (ended: Ended): Readonly<Record<string, readonly string[]>> =>
  Object.fromEntries(
    verifiedOf(ended).map(({ table, differences }) => [
      table.split('.')[1],
      differences.map(({ kind, key, columns }) => `${kind} ${key.join('/')} ${columns.join()}`.trimEnd()).sort(),
    ]),
  );
