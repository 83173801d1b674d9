import { expect, test } from 'vitest';
import { connect } from '../../../functions/postgres/client.ts';
import { PostgresSinkConfig } from '../../../functions/postgres/config.ts';
import { createPostgresStaged } from '../../../functions/postgres/staging.ts';
import { describeAtomic } from '../../kit/describe-atomic.ts';
import { putRecords } from '../../kit/put-records.ts';
import { useSink } from './sink-fixture.ts';

const { schema, ...sink } = useSink();

describeAtomic('PostgreSQL', sink);

test('a staged batch that another run has written since it was listed is FENCED', async () => {
  await sink.withSink({ transactions: 'atomic' }, (task) => putRecords(task, [{ topic: 't', value: { id: 1 } }]));
  const config = PostgresSinkConfig.parse(sink.through(sink.port()));
  const connection = await connect(config, 'test', new AbortController().signal);
  const staged = createPostgresStaged(schema(), { deployment: 'd', connector: 'c', incarnation: 'i' });
  await expect(staged.read(connection, '{"source":"test"}', 7)).rejects.toMatchObject({ code: 'FENCED' });
  await connection.close();
});
