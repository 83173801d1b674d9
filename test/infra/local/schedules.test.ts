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

  test('by cron fires at its times, on the clocks of its time zone, and not at the start', async () => {
    const every = (minutes: string) => ({ ScheduleExpression: `cron(${minutes} * * * ? *)` });
    const at = (name: string) => ({ Input: `{"why":"${name}","at":"<aws.scheduler.scheduled-time>"}` });
    const resources = {
      Tenth: schedule(every('0/10'), at('tenth')),
      // Half an hour off all the world's round hours.
      Kolkata: schedule({ ...every('30'), ScheduleExpressionTimezone: 'Asia/Kolkata' }, at('kolkata')),
      Never: schedule({ ScheduleExpression: 'cron(0 0 1 1 ? 2020)' }, at('never')),
    };
    const app = await run({ functions, resources }, { minuteMs: 20 });
    const fired = () => app.lines('Tick').map((line) => JSON.parse(line) as { why: string; at: string });
    await until(() => ['tenth', 'kolkata'].every((name) => fired().filter(({ why }) => why === name).length >= 2));
    for (const { why, at: time } of fired()) {
      const [, minute, second] = /:(\d\d):(\d\d)\.000Z$/.exec(time) ?? [];
      expect(second).toBe('00');
      expect(Number(minute) % (why === 'tenth' ? 10 : 60), `${why} at ${time}`).toBe(0);
    }
    const tenths = fired().filter(({ why }) => why === 'tenth');
    expect(new Set(tenths.map(({ at: time }) => time)).size, 'no time twice').toBe(tenths.length);
    expect(fired().some(({ why }) => why === 'never')).toBe(false);
  });

  test('for one time fires then, once', async () => {
    const soon = new Date(Date.now() + 90 * 60_000).toLocaleString('sv-SE', { timeZone: 'Europe/Berlin' });
    const once = schedule({
      ScheduleExpression: `at(${soon.replace(' ', 'T')})`,
      ScheduleExpressionTimezone: 'Europe/Berlin',
    });
    const past = schedule({ ScheduleExpression: 'at(2020-01-01T00:00:00)' });
    const every = schedule({ ScheduleExpression: 'rate(1 hour)' }, { Input: '"hour"' });
    const resources = { Once: once, Past: past, Every: every };
    const app = await run({ functions, resources }, { minuteMs: 10, fireAtStart: false });
    const hours = () => app.lines('Tick').filter((line) => line === '"hour"').length;
    await until(() => hours() >= 3);
    expect(app.lines('Tick').length - hours()).toBe(1);
  });

  test.each([
    ['rate(0 minutes)', 'use rate(<n> minutes|hours|days)'],
    ['cron(0 25 * * ? *)', 'cron "0 25 * * ? *" is not possible: hours is "25"'],
    ['at(tomorrow)', 'use rate(…), cron(…) or at(yyyy-mm-ddThh:mm:ss)'],
    ['daily', 'use rate(…), cron(…) or at(yyyy-mm-ddThh:mm:ss)'],
  ])('%s is refused', async (expression, why) => {
    const resources = { Every: schedule({ ScheduleExpression: expression }) };
    await expect(run({ functions, resources })).rejects.toThrow(
      `App/Every (AWS::Scheduler::Schedule): ${expression} does not run locally; ${why}`,
    );
  });

  test('in a time zone that there is not is refused', async () => {
    const resources = { Every: schedule({ ScheduleExpressionTimezone: 'Europe/Berln' }) };
    await expect(run({ functions, resources })).rejects.toThrow('there is no such time zone');
  });

  test('of a function that is not there is refused', async () => {
    const resources = { Every: schedule({}, { Arn: 'arn:aws:lambda:us-east-1:0:function:other' }) };
    await expect(run({ functions, resources })).rejects.toThrow('refers to function other, which is not in this app');
  });
});
