import { randomUUID } from 'node:crypto';
import * as z from 'zod';
import type { Intrinsics } from './intrinsics.ts';
import type { Invoke } from './lambda-api.ts';
import { parseProperties, unsupported } from './properties.ts';
import { type Resource, resourceName } from './template.ts';

/** AWS::Scheduler::Schedule or AWS::Events::Rule with a rate, resolved to one target. */
export interface Schedule {
  arn: string;
  periodMinutes: number;
  enabled: boolean;
  targetArn: string;
  payload: (firing: Firing) => string;
}

interface Firing {
  scheduledAt: Date;
  executionId: string;
}

const scheduleProperties = z.object({
  ScheduleExpression: z.string(),
  State: z.enum(['ENABLED', 'DISABLED']).default('ENABLED'),
  Target: z.object({ Arn: z.string(), Input: z.string().optional() }),
});

const ruleProperties = z.object({
  ScheduleExpression: z.string('rules on events do not run locally, only those with a ScheduleExpression'),
  EventPattern: unsupported('rules on events do not run locally, only those with a ScheduleExpression'),
  State: z.enum(['ENABLED', 'DISABLED', 'ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS']).default('ENABLED'),
  Targets: z
    .array(
      z.object({
        Arn: z.string(),
        Input: z.string().optional(),
        InputPath: unsupported('InputPath does not run locally; give Input'),
        InputTransformer: unsupported('InputTransformer does not run locally; give Input'),
      }),
    )
    .default([]),
});

export function isSchedule(resource: Resource): boolean {
  return resource.type === 'AWS::Scheduler::Schedule' || resource.type === 'AWS::Events::Rule';
}

export function describeSchedules(resource: Resource, intrinsics: Intrinsics): Schedule[] {
  const arn = intrinsics.identityOf(resource).attributes.Arn ?? '';
  if (resource.type === 'AWS::Scheduler::Schedule') {
    const { Target, State, ScheduleExpression } = parseProperties(scheduleProperties, resource, intrinsics);
    const payload = ({ scheduledAt, executionId }: Firing) =>
      (Target.Input ?? scheduledEvent(resource, arn, 'aws.scheduler', scheduledAt))
        .replaceAll('<aws.scheduler.schedule-arn>', arn)
        .replaceAll('<aws.scheduler.scheduled-time>', scheduledAt.toISOString())
        .replaceAll('<aws.scheduler.execution-id>', executionId)
        .replaceAll('<aws.scheduler.attempt-number>', '1');
    return [
      {
        arn,
        periodMinutes: periodOf(resource, ScheduleExpression),
        enabled: State === 'ENABLED',
        targetArn: Target.Arn,
        payload,
      },
    ];
  }
  const { Targets, State, ScheduleExpression } = parseProperties(ruleProperties, resource, intrinsics);
  return Targets.map((target) => ({
    arn,
    periodMinutes: periodOf(resource, ScheduleExpression),
    enabled: State !== 'DISABLED',
    targetArn: target.Arn,
    payload: ({ scheduledAt }: Firing) => target.Input ?? scheduledEvent(resource, arn, 'aws.events', scheduledAt),
  }));
}

function scheduledEvent({ stack }: Resource, arn: string, source: string, scheduledAt: Date): string {
  return JSON.stringify({
    version: '0',
    id: randomUUID(),
    'detail-type': 'Scheduled Event',
    source,
    account: stack.account,
    time: scheduledAt.toISOString().replace(/\.\d+Z$/, 'Z'),
    region: stack.region,
    resources: [arn],
    detail: {},
  });
}

/** A longer timer fires at once, so longer periods are shortened to 24 days. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

const MINUTES = { minute: 1, hour: 60, day: 1_440 };

function periodOf(resource: Resource, expression: string): number {
  const [, count, unit] = /^rate\((\d+) (minute|hour|day)s?\)$/.exec(expression) ?? [];
  if (count === undefined || Number(count) === 0) {
    throw new Error(`${resourceName(resource)}: ${expression} does not run locally; use rate(<n> minutes|hours|days)`);
  }
  return Number(count) * MINUTES[unit as keyof typeof MINUTES];
}

export interface SchedulesOptions {
  invoke: Invoke;
  fireAtStart: boolean;
  /** The length of a schedule's minute; tests shorten it. */
  minuteMs: number;
  onError: (schedule: Schedule, error: Error) => void;
}

export interface Schedules {
  stop(): void;
}

/** Each firing is an Event invocation. Firings missed while the machine slept are not made up for. */
export function startSchedules(schedules: Schedule[], options: SchedulesOptions): Schedules {
  const timers = new Set<NodeJS.Timeout>();

  async function fire(schedule: Schedule): Promise<void> {
    try {
      const payload = schedule.payload({ scheduledAt: new Date(), executionId: randomUUID() });
      await options.invoke(schedule.targetArn, payload, 'Event');
    } catch (error) {
      options.onError(schedule, error as Error);
    }
  }

  function start(schedule: Schedule): void {
    const periodMs = Math.min(schedule.periodMinutes * options.minuteMs, LONGEST_TIMER_MS);
    const timer = setInterval(() => void fire(schedule), periodMs);
    timers.add(timer);
    if (options.fireAtStart) void fire(schedule);
  }

  for (const schedule of schedules) if (schedule.enabled) start(schedule);
  return {
    stop: () => {
      for (const timer of timers) clearInterval(timer);
    },
  };
}
