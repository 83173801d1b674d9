import { Duration } from 'aws-cdk-lib/core';
import { ConnectError } from '../../shared/connect/errors.ts';
import { onData } from '../../shared/connect/spec.ts';

/** What starts the runs of a connector's tasks. A hint only: the committed offset says where a run resumes. */
export class Trigger {
  /** A run of every task at this interval: whole minutes, at least one. */
  static every(interval: Duration): Trigger {
    const seconds = interval.toSeconds({ integral: false });
    if (seconds < 60 || seconds % 60 !== 0)
      throw new ConnectError(
        'CONFIG_INVALID',
        `trigger: every ${seconds} s is not possible, a schedule has whole minutes; use Duration.minutes(1) or more`,
      );
    return new Trigger(`every ${seconds} s`, Duration.minutes(seconds / 60));
  }

  /** Runs are started by an operator: `sluice run`, or an invocation. */
  static manual(): Trigger {
    return new Trigger('manual');
  }

  /** A run when there is something new in the topics that it reads. The default of sinks and processors; a source has none. */
  static onData(): Trigger {
    return new Trigger(onData);
  }

  /** As it stands in status. */
  readonly description: string;
  readonly interval: Duration | undefined;

  private constructor(description: string, interval?: Duration) {
    this.description = description;
    this.interval = interval;
  }
}
