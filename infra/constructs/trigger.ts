import type { IBucket } from 'aws-cdk-lib/aws-s3';
import { ScheduleExpression } from 'aws-cdk-lib/aws-scheduler';
import type { IQueue } from 'aws-cdk-lib/aws-sqs';
import { Duration, type Size, TimeZone, Token } from 'aws-cdk-lib/core';
import { bucketPattern } from '../../functions/file/path-config.ts';
import { type ConnectError, isCode } from '../../shared/connect/errors.ts';
import type { ConnectorSpec } from '../../shared/connect/spec.ts';
import { onData } from '../../shared/connect/trigger.ts';
import { parseCron } from '../cron.ts';
import { refused as refusedBy } from '../problems.ts';
import { isTimeZone } from '../time-zone.ts';

/** The fields of a cron expression; those left out are `*`, of the two days one is `?`. */
export interface CronFields {
  readonly minute?: string;
  readonly hour?: string;
  readonly day?: string;
  readonly month?: string;
  readonly weekDay?: string;
  readonly year?: string;
}

export interface CronOptions {
  /**
   * Whose clocks the hours are of: `Europe/Berlin`.
   *
   * @default - UTC
   */
  readonly timeZone?: string;

  /**
   * A run starts at any moment of this time after the one given, so that not all pipelines of the world start at once.
   *
   * @default - none: on time
   */
  readonly window?: Duration;
}

export interface ObjectOptions {
  /**
   * Only objects whose key begins with this wake the connector.
   *
   * @default - every object of the bucket
   */
  readonly prefix?: string;

  /**
   * Only objects whose key ends with this.
   *
   * @default - any
   */
  readonly suffix?: string;
}

export interface BacklogOptions {
  /** A run starts when so much is unread, uncompressed. */
  readonly bytes: Size;

  /** And at the latest this long after the last one, where anything is unread. */
  readonly atMost: Duration;
}

/** @internal */
export interface ScheduleSpec {
  readonly expression: ScheduleExpression;
  readonly window?: Duration;
}

/** What a connector has to make for its trigger. @internal */
export interface TriggerParts {
  /** As it stands in status. */
  readonly description: string;
  /** Runs of every task; for what is woken by events it is the guarantee that a lost one strands nothing. */
  readonly schedule?: ScheduleSpec;
  readonly objects?: ObjectOptions & { readonly bucket: IBucket | string };
  readonly queue?: IQueue | string;
  /** Only for readers of the log: there is a topic to wait for. */
  readonly ofLog?: true;
  readonly spec?: Pick<ConnectorSpec, 'backlog' | 'continuous'>;
}

/** What starts the runs of a connector's tasks. A hint only: the committed offset says where a run resumes. */
export class Trigger {
  /** A run of every task at this interval: whole minutes, at least one. */
  static every(interval: Duration): Trigger {
    const seconds = interval.toSeconds({ integral: false });
    if (seconds < 60 || seconds % 60 !== 0)
      throw refused(
        `every ${seconds} s is not possible, a schedule has whole minutes; use Duration.minutes(1) or more`,
      );
    const expression = ScheduleExpression.rate(Duration.minutes(seconds / 60));
    return new Trigger({ description: `every ${seconds} s`, schedule: { expression } });
  }

  /**
   * A run of every task at these times: AWS's six fields (`0 2 * * ? *`: minutes, hours, day of month, month, day of week, year), or
   * those that are not `*`.
   */
  static cron(when: string | CronFields, { timeZone = 'UTC', window }: CronOptions = {}): Trigger {
    const text = typeof when === 'string' ? when.trim() : expressionOf(when);
    const problems = [cronProblem(text)];
    if (!isTimeZone(timeZone))
      problems.push(`there is no time zone "${timeZone}"; use a name such as Europe/Berlin or UTC`);
    const minutes = window?.toMinutes({ integral: false });
    if (minutes !== undefined && (minutes < 1 || minutes > 1440 || minutes % 1 !== 0))
      problems.push(`a window of ${minutes} minutes is not possible; use whole minutes, 1 to 1440`);
    const found = problems.filter((one) => one !== undefined);
    if (found.length > 0) throw refused(found.join('; '));
    const expression = ScheduleExpression.expression(`cron(${text})`, TimeZone.of(timeZone));
    return new Trigger({
      description: `cron ${text}${timeZone === 'UTC' ? '' : ` ${timeZone}`}`,
      schedule: { expression, ...(window === undefined ? {} : { window }) },
    });
  }

  /**
   * A run when an object has been written; once an hour besides, because an event can be lost. The bucket, or its name where it is
   * no part of this app.
   */
  static s3(bucket: IBucket | string, { prefix, suffix }: ObjectOptions = {}): Trigger {
    const name = typeof bucket === 'string' ? bucket : bucket.bucketName;
    if (!Token.isUnresolved(name) && !bucketPattern.test(name))
      throw refused(`"${name}" is no name of a bucket: 3 to 63 lower-case letters, digits, "." and "-"`);
    return new Trigger({
      description: `s3://${name}/${prefix ?? ''}${suffix === undefined ? '' : `*${suffix}`}`,
      objects: { bucket, ...(prefix === undefined ? {} : { prefix }), ...(suffix === undefined ? {} : { suffix }) },
      schedule: fallback,
    });
  }

  /**
   * A run when a message has come, whatever it says; it is then deleted. Once an hour besides, because a message can be lost. The
   * queue, or its ARN where it is no part of this app.
   */
  static sqs(queue: IQueue | string): Trigger {
    const arn = typeof queue === 'string' ? queue : queue.queueArn;
    if (!Token.isUnresolved(arn) && !/^arn:[\w-]+:sqs:[\w-]+:\d{12}:[\w-]+(\.fifo)?$/.test(arn))
      throw refused(`"${arn}" is no ARN of a queue; it looks like arn:aws:sqs:eu-central-1:123456789012:orders`);
    return new Trigger({ description: `sqs ${arn}`, queue, schedule: fallback });
  }

  /**
   * One run after the other, each until the time of its function ends: what is new is copied within a second, for about $17 a month.
   * A schedule starts it again where it was lost.
   */
  static continuous(): Trigger {
    const expression = ScheduleExpression.rate(Duration.minutes(1));
    return new Trigger({ description: 'continuous', schedule: { expression }, spec: { continuous: true } });
  }

  /** Only for readers of the log: a run when enough is unread, so that a trickle becomes one file an hour and not one a second. */
  static backlog({ bytes, atMost }: BacklogOptions): Trigger {
    const backlog = { bytes: bytes.toBytes(), atMostMs: atMost.toMilliseconds() };
    if (backlog.bytes < 1 || backlog.atMostMs < 60_000)
      throw refused(
        `a backlog of ${backlog.bytes} bytes, at most ${backlog.atMostMs} ms, is not possible: it is looked at once a minute; give at least 1 byte and 1 minute`,
      );
    return new Trigger({
      description: `backlog of ${backlog.bytes} bytes or ${backlog.atMostMs / 1000} s`,
      ofLog: true,
      spec: { backlog },
    });
  }

  /** Runs are started by an operator: `sluice run`, or an invocation. */
  static manual(): Trigger {
    return new Trigger({ description: 'manual' });
  }

  /** A run when there is something new in the topics that it reads. The default of sinks and processors; a source has none. */
  static onData(): Trigger {
    return new Trigger({ description: onData, ofLog: true });
  }

  /** As it stands in status. */
  readonly description: string;
  /** @internal */
  readonly _parts: TriggerParts;

  private constructor(parts: TriggerParts) {
    this.description = parts.description;
    this._parts = parts;
  }
}

const fallback: ScheduleSpec = { expression: ScheduleExpression.rate(Duration.hours(1)) };

const refused = (message: string): ConnectError => refusedBy(`trigger: ${message}`);

const cronProblem = (expression: string): string | undefined => {
  try {
    parseCron(expression);
    return undefined;
  } catch (thrown) {
    if (!isCode(thrown, 'CONFIG_INVALID')) throw thrown;
    return thrown.message;
  }
};

const expressionOf = ({ minute = '*', hour = '*', day, month = '*', weekDay, year = '*' }: CronFields): string =>
  `${minute} ${hour} ${day ?? (weekDay === undefined ? '*' : '?')} ${month} ${weekDay ?? '?'} ${year}`;
