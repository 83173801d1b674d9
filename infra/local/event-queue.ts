import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import * as z from 'zod';
import type { Activity } from './activity.ts';
import type { Chaos } from './chaos.ts';
import { type Functions, HostStoppingError, TooManyRequestsException } from './functions.ts';
import type { Intrinsics } from './intrinsics.ts';
import { continueTrace } from './lineage.ts';
import { functionNameOf, integer, parseProperties, unsupported } from './properties.ts';
import { isQueueArn } from './sqs.ts';
import { type Resource, resourceName } from './template.ts';

/** AWS::Lambda::EventInvokeConfig, resolved. */
export interface EventInvokeConfig {
  functionName: string;
  maximumRetryAttempts: number;
  maximumEventAgeMs: number;
  /** A function's name, or a queue's ARN. */
  onFailure: string | undefined;
}

export interface EventQueue {
  /** Takes the event over: from here on it is retried, and sent to the on-failure destination where it fails for good. */
  accept(functionName: string, payload: string, callerTraceId?: string): string;
  /** To an on-failure destination: what became of an event, or of records of a stream. */
  send(destination: string, payload: string, callerTraceId?: string): void;
  /** Events that wait for a retry are dropped: a trigger is only a hint. */
  stop(): Promise<void>;
}

export interface EventQueueOptions {
  functions: Functions;
  activity: Activity;
  configs: Map<string, EventInvokeConfig>;
  chaos: Chaos | undefined;
  /** Before the first, second… retry; AWS waits one minute, then two. */
  retryDelaysMs: readonly number[];
  sendToQueue: (arn: string, body: string) => Promise<unknown>;
  onLog: (functionName: string, line: string) => unknown;
}

interface QueuedEvent {
  functionName: string;
  payload: string;
  requestId: string;
  traceId: string;
  acceptedAtMs: number;
}

interface Failure {
  condition: 'RetriesExhausted' | 'EventAgeExceeded' | 'RecursiveInvocation';
  invokeCount: number;
  payload: string;
}

const DEFAULT_CONFIG = { maximumRetryAttempts: 2, maximumEventAgeMs: 21_600_000, onFailure: undefined };
const THROTTLE_DELAY_MS = 1_000;

const eventInvokeConfigProperties = z.object({
  FunctionName: z.string(),
  MaximumRetryAttempts: integer.default(2),
  MaximumEventAgeInSeconds: integer.default(21_600),
  DestinationConfig: z
    .object({
      OnSuccess: unsupported('an on-success destination does not run locally; invoke the function from the handler'),
      OnFailure: z.object({ Destination: z.string() }).optional(),
    })
    .optional(),
});

export function describeEventInvokeConfig(resource: Resource, intrinsics: Intrinsics): EventInvokeConfig {
  const properties = parseProperties(eventInvokeConfigProperties, resource, intrinsics);
  return {
    functionName: functionNameOf(properties.FunctionName),
    maximumRetryAttempts: properties.MaximumRetryAttempts,
    maximumEventAgeMs: properties.MaximumEventAgeInSeconds * 1000,
    onFailure: failureDestination(resource, properties.DestinationConfig?.OnFailure?.Destination),
  };
}

/** The name of a function, or the ARN of a queue. */
export function failureDestination(resource: Resource, arn: string | undefined): string | undefined {
  if (arn === undefined || isQueueArn(arn)) return arn;
  if (!arn.startsWith('arn:aws:lambda:')) {
    throw new Error(
      `${resourceName(resource)}: on-failure destination ${arn} is neither a Lambda function nor a queue; the local host delivers to those only`,
    );
  }
  return functionNameOf(arn);
}

export function createEventQueue(options: EventQueueOptions): EventQueue {
  const { functions, activity } = options;
  const stopping = new AbortController();
  const open = new Set<Promise<void>>();

  function accept(functionName: string, payload: string, callerTraceId?: string): string {
    const { traceId, recursive } = continueTrace(callerTraceId, functionName);
    const event = { functionName, payload, requestId: randomUUID(), traceId, acceptedAtMs: Date.now() };
    const stopped = recursive && functions.find(functionName)?.recursiveLoop !== 'Allow';
    for (const afterMs of options.chaos?.deliveries() ?? [0]) {
      const done = activity.track(stopped ? stopLoop(event) : deliver(event, afterMs)).finally(() => open.delete(done));
      open.add(done);
    }
    return event.requestId;
  }

  async function stopLoop(event: QueuedEvent): Promise<void> {
    const error = {
      errorType: 'RecursiveInvocationException',
      errorMessage: 'Lambda detected a recursive loop and stopped it',
    };
    fail(event, { condition: 'RecursiveInvocation', invokeCount: 0, payload: JSON.stringify(error) });
  }

  async function deliver(event: QueuedEvent, afterMs: number): Promise<void> {
    try {
      if (afterMs > 0) await delay(afterMs, undefined, { signal: stopping.signal });
      const failure = await attempts(event);
      if (failure) fail(event, failure);
    } catch (error) {
      const ended = error instanceof HostStoppingError || stopping.signal.aborted;
      if (!ended) throw error;
    }
  }

  async function attempts(event: QueuedEvent): Promise<Failure | undefined> {
    const config = options.configs.get(event.functionName) ?? DEFAULT_CONFIG;
    for (let invokeCount = 0; ; ) {
      let payload = '';
      let delayMs = THROTTLE_DELAY_MS;
      try {
        const result = await functions.invoke(event.functionName, { ...event, whenBusy: 'wait' });
        if (!result.error) return undefined;
        invokeCount += 1;
        payload = result.payload;
        if (invokeCount > config.maximumRetryAttempts) return { condition: 'RetriesExhausted', invokeCount, payload };
        delayMs = options.retryDelaysMs[invokeCount - 1] ?? options.retryDelaysMs.at(-1) ?? 0;
      } catch (error) {
        // Throttling is no attempt: AWS tries until the event is too old.
        if (!(error instanceof TooManyRequestsException)) throw error;
      }
      if (Date.now() + delayMs - event.acceptedAtMs > config.maximumEventAgeMs) {
        return { condition: 'EventAgeExceeded', invokeCount, payload };
      }
      await delay(delayMs, undefined, { signal: stopping.signal });
    }
  }

  function fail(event: QueuedEvent, failure: Failure): void {
    const destination = options.configs.get(event.functionName)?.onFailure;
    if (destination !== undefined) {
      send(destination, JSON.stringify(failureRecord(event, failure)), event.traceId);
      return;
    }
    options.onLog(
      event.functionName,
      `event ${event.requestId} dropped (${failure.condition}, invoked ${failure.invokeCount} times): ${failure.payload}`,
    );
  }

  function send(destination: string, payload: string, callerTraceId?: string): void {
    if (!isQueueArn(destination)) {
      accept(destination, payload, callerTraceId);
      return;
    }
    const sent = activity.track(options.sendToQueue(destination, payload)).then(
      () => {},
      (error: Error) => void options.onLog(destination, `took no failed event: ${error.message}`),
    );
    const done = sent.finally(() => open.delete(done));
    open.add(done);
  }

  function failureRecord(event: QueuedEvent, { condition, invokeCount, payload }: Failure) {
    return {
      version: '1.0',
      timestamp: new Date().toISOString(),
      requestContext: {
        requestId: event.requestId,
        functionArn: `${functions.find(event.functionName)?.arn}:$LATEST`,
        condition,
        approximateInvokeCount: invokeCount,
      },
      requestPayload: JSON.parse(event.payload),
      ...(payload
        ? {
            responseContext: { statusCode: 200, executedVersion: '$LATEST', functionError: 'Unhandled' },
            responsePayload: JSON.parse(payload),
          }
        : {}),
    };
  }

  return {
    accept,
    send,
    async stop() {
      stopping.abort();
      await Promise.allSettled(open);
    },
  };
}
