import { ArnPrincipal, type IRole } from 'aws-cdk-lib/aws-iam';
import type { Function as LambdaFunction } from 'aws-cdk-lib/aws-lambda';
import { Schedule, ScheduleExpression, ScheduleTargetInput, TimeWindow } from 'aws-cdk-lib/aws-scheduler';
import { Duration } from 'aws-cdk-lib/core';
import type { Construct } from 'constructs';
import type { ScheduleSpec } from './trigger.ts';

export interface ScheduleProps {
  readonly target: LambdaFunction;
  readonly when: Duration | ScheduleSpec;
  readonly input: object;
  /** The scheduler's role; the function's own policy lets it in. */
  readonly role: IRole;
}

export const schedule = (scope: Construct, id: string, props: ScheduleProps): Schedule => {
  const { target, when, input, role } = props;
  const { expression, window }: ScheduleSpec =
    when instanceof Duration ? { expression: ScheduleExpression.rate(when) } : when;
  return new Schedule(scope, id, {
    schedule: expression,
    ...(window === undefined ? {} : { timeWindow: TimeWindow.flexible(window) }),
    target: {
      bind: () => ({
        arn: target.functionArn,
        role,
        input: ScheduleTargetInput.fromObject(input),
        // A trigger is only a hint; one that is late is as good as the next.
        retryPolicy: { maximumRetryAttempts: 3, maximumEventAgeInSeconds: 300 },
      }),
    },
  });
};

/** Lets roles invoke a function, by its own policy. Returns the permissions, for what must not run without them. */
export const grantInvoke = (target: LambdaFunction, roles: { readonly [name: string]: IRole }): readonly Construct[] =>
  Object.entries(roles).map(([name, role]) => {
    target.addPermission(name, { principal: new ArnPrincipal(role.roleArn) });
    return target.permissionsNode.findChild(name) as Construct;
  });
