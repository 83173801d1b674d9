import { randomUUID } from 'node:crypto';
import * as z from 'zod';
import { type Cron, nextFiring, parseCron } from '../cron.ts';
import { instantOf, isTimeZone } from '../time-zone.ts';
import type { Intrinsics } from './intrinsics.ts';
import type { Invoke } from './lambda-api.ts';
import { parseProperties, unsupported } from './properties.ts';
import { type Resource, resourceName } from './template.ts';

/** AWS::Scheduler::Schedule or AWS::Events::Rule with a schedule, resolved to one target. */
export interface Schedule extends Times {
  arn: string;
  enabled: boolean;
  targetArn: string;
  payload: (firing: Firing) => string;
}

interface Times {
  /** The first time after this one, undefined: never again. */
  next: (afterMs: number) => number | undefined;
  /** A rate says how often, not when: it may fire at the start, too. */
  isRate: boolean;
}

interface Firing {
  scheduledAt: Date;
  executionId: string;
}

const scheduleProperties = z.object({
  ScheduleExpression: z.string(),
  ScheduleExpressionTimezone: z.string().refine(isTimeZone, 'there is no such time zone').default('UTC'),
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
    const properties = parseProperties(scheduleProperties, resource, intrinsics);
    const { Target, State, ScheduleExpression, ScheduleExpressionTimezone } = properties;
    const payload = ({ scheduledAt, executionId }: Firing) =>
      (Target.Input ?? scheduledEvent(resource, arn, 'aws.scheduler', scheduledAt))
        .replaceAll('<aws.scheduler.schedule-arn>', arn)
        .replaceAll('<aws.scheduler.scheduled-time>', scheduledAt.toISOString())
        .replaceAll('<aws.scheduler.execution-id>', executionId)
        .replaceAll('<aws.scheduler.attempt-number>', '1');
    return [
      {
        arn,
        ...timesOf(resource, ScheduleExpression, ScheduleExpressionTimezone),
        enabled: State === 'ENABLED',
        targetArn: Target.Arn,
        payload,
      },
    ];
  }
  const { Targets, State, ScheduleExpression } = parseProperties(ruleProperties, resource, intrinsics);
  return Targets.map((target) => ({
    arn,
    ...timesOf(resource, ScheduleExpression, 'UTC'),
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

const MINUTES = { minute: 1, hour: 60, day: 1_440 };

function timesOf(resource: Resource, expression: string, timeZone: string): Times {
  const [, kind, operand = ''] = /^(rate|cron|at)\((.*)\)$/.exec(expression) ?? [];
  const refused = (why: string) => new Error(`${resourceName(resource)}: ${expression} does not run locally; ${why}`);
  if (kind === 'rate') {
    const [, count, unit] = /^(\d+) (minute|hour|day)s?$/.exec(operand) ?? [];
    if (count === undefined || Number(count) === 0) throw refused('use rate(<n> minutes|hours|days)');
    const periodMs = Number(count) * MINUTES[unit as keyof typeof MINUTES] * 60_000;
    return { next: (afterMs) => afterMs + periodMs, isRate: true };
  }
  if (kind === 'cron') {
    const cron = cronOf(operand, refused);
    return { next: (afterMs) => nextFiring(cron, afterMs, timeZone), isRate: false };
  }
  const wallMs = kind === 'at' && /^[\d-]+T[\d:]+$/.test(operand) ? Date.parse(`${operand}Z`) : Number.NaN;
  if (Number.isNaN(wallMs)) throw refused('use rate(…), cron(…) or at(yyyy-mm-ddThh:mm:ss)');
  const atMs = instantOf(wallMs, timeZone);
  return { next: (afterMs) => (atMs !== undefined && atMs > afterMs ? atMs : undefined), isRate: false };
}

function cronOf(expression: string, refused: (why: string) => Error): Cron {
  try {
    return parseCron(expression);
  } catch (error) {
    throw refused((error as Error).message);
  }
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

/** A longer timer fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Each firing is an Event invocation. Firings missed while the machine slept are not made up for. */
export function startSchedules(schedules: Schedule[], options: SchedulesOptions): Schedules {
  const timers = new Map<Schedule, NodeJS.Timeout>();
  const speed = 60_000 / options.minuteMs;
  const startMs = Date.now();
  const nowMs = (): number => startMs + (Date.now() - startMs) * speed;

  async function fire(schedule: Schedule, scheduledMs: number): Promise<void> {
    try {
      const payload = schedule.payload({ scheduledAt: new Date(scheduledMs), executionId: randomUUID() });
      await options.invoke(schedule.targetArn, payload, 'Event');
    } catch (error) {
      options.onError(schedule, error as Error);
    }
  }

  function wait(schedule: Schedule, untilMs: number): void {
    const leftMs = Math.max(0, untilMs - nowMs()) / speed;
    const timer = setTimeout(
      () => {
        if (leftMs > LONGEST_TIMER_MS) return wait(schedule, untilMs);
        void fire(schedule, untilMs);
        waitForNext(schedule, Math.max(untilMs, nowMs()));
      },
      Math.min(leftMs, LONGEST_TIMER_MS),
    );
    timers.set(schedule, timer);
  }

  function waitForNext(schedule: Schedule, afterMs: number): void {
    const next = schedule.next(afterMs);
    if (next !== undefined) wait(schedule, next);
  }

  for (const schedule of schedules) {
    if (!schedule.enabled) continue;
    if (schedule.isRate && options.fireAtStart) void fire(schedule, startMs);
    waitForNext(schedule, startMs);
  }
  return {
    stop: () => {
      for (const timer of timers.values()) clearTimeout(timer);
    },
  };
}
