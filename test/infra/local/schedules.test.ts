import { describe, expect, test } from 'vitest';
import { until } from '../../kit/until.ts';
import { run } from './app.ts';

const functions = { Tick: 'export const handler = async (event) => console.log(JSON.stringify(event));' };
const schedule = (properties: Record<string, unknown> = {}, target: Record<string, unknown> = {}) => ({
  Type: 'AWS::Scheduler::Schedule',
  Properties: {
    ScheduleExpression: 'rate(1 minute)',
    FlexibleTimeWindow: { Mode: 'OFF' },
    Target: { Arn: { 'Fn::GetAtt': ['Tick', 'Arn'] }, RoleArn: 'role', ...target },
    ...properties,
  },
});

describe('a schedule', () => {
  test('fires at the start and then every period, with its input', async () => {
    const Input = '{"why":"tick","at":"<aws.scheduler.scheduled-time>"}';
    const app = await run({ functions, resources: { Every: schedule({}, { Input }) } }, { minuteMs: 100 });
    await until(() => app.lines('Tick').length >= 3);
    expect(JSON.parse(app.lines('Tick')[0]!)).toEqual({ why: 'tick', at: expect.stringMatching(/^\d{4}-.*Z$/) });
  });

  test('fires a period later where it is told so, and not after the stop', async () => {
    const app = await run({ functions, resources: { Every: schedule() } }, { minuteMs: 50, fireAtStart: false });
    expect(app.logs).toEqual([]);
    await until(() => app.lines('Tick').length > 0);
    await app.stop({ graceMs: 5_000 });
    const fired = app.lines('Tick').length;
    await expect(until(() => app.lines('Tick').length > fired, { timeoutMs: 300 })).rejects.toThrow();
  });

  test('that is disabled does not fire, a rule fires with its event', async () => {
    const app = await run({
      functions,
      resources: {
        Off: schedule({ State: 'DISABLED' }),
        Rule: {
          Type: 'AWS::Events::Rule',
          Properties: {
            ScheduleExpression: 'rate(5 minutes)',
            State: 'ENABLED',
            Targets: [{ Id: 'Target0', Arn: { 'Fn::GetAtt': ['Tick', 'Arn'] } }],
          },
        },
      },
    });
    await app.idle();
    expect(app.lines('Tick').map((line) => JSON.parse(line))).toEqual([
      {
        version: '0',
        id: expect.any(String),
        'detail-type': 'Scheduled Event',
        source: 'aws.events',
        account: '000000000000',
        time: expect.any(String),
        region: 'us-east-1',
        resources: ['arn:aws:events:us-east-1:000000000000:rule/App-Rule'],
        detail: {},
      },
    ]);
  });

  test.each(['cron(0 8 * * ? *)', 'at(2030-01-01T00:00:00)', 'rate(0 minutes)'])(
    '%s is refused',
    async (expression) => {
      const resources = { Every: schedule({ ScheduleExpression: expression }) };
      await expect(run({ functions, resources })).rejects.toThrow(
        `App/Every (AWS::Scheduler::Schedule): ${expression} does not run locally`,
      );
    },
  );

  test('of a function that is not there is refused', async () => {
    const resources = { Every: schedule({}, { Arn: 'arn:aws:lambda:us-east-1:0:function:other' }) };
    await expect(run({ functions, resources })).rejects.toThrow('refers to function other, which is not in this app');
  });
});
