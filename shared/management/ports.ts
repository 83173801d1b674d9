import type { Problem } from '../connect/connector.ts';
import type { ErrorCode } from '../connect/errors.ts';
import type { ConnectorSpec } from '../connect/spec.ts';
import type { RunResult } from '../runtime/run.ts';
import type { VerifyAnswers, VerifyQuestion } from '../verify/answer.ts';

/** Why a task is run; only for its log. */
export type Reason = 'schedule' | 'data' | 'backlog' | 'wake' | 'sweep' | 'manual' | 's3' | 'sqs';

/** What a connector's function is invoked with. */
export interface RunEvent {
  readonly connector: string;
  readonly task: number;
  readonly reason: Reason;
  /** Ends when it has caught up, also where the connector is continuous: it looks for more even while another run holds the lease. */
  readonly drain?: true;
}

export interface LifecycleEvent {
  readonly connector: string;
  readonly lifecycle: 'check' | 'created' | 'deleted' | 'lag';
  /** For `check`: what the connector is to be; its row, if there is one, is not asked. */
  readonly spec?: ConnectorSpec;
}

/** A question about the rows of a connector's tables: of the system that it reads, or of the one that it writes to. */
export interface VerifyEvent {
  readonly connector: string;
  readonly verify: VerifyQuestion;
  readonly side: 'source' | 'sink';
}

/** Objects that were written, or messages that came: whatever they say, they only wake the connector of the function. */
export interface WakeEvent {
  readonly Records: readonly { readonly eventSource: 'aws:s3' | 'aws:sqs' }[];
}

/** What S3 sends when it is told whom to notify. */
export interface S3TestEvent {
  readonly Event: 's3:TestEvent';
}

export type ConnectorEvent = RunEvent | LifecycleEvent | VerifyEvent;

export type ConnectorAnswer =
  | (Partial<Omit<RunResult, 'error' | 'outcome'>> & {
      /** `held`: the readers of a topic that it writes are too far behind; the coordinator starts it again. */
      readonly outcome: RunResult['outcome'] | 'held';
      readonly code?: string;
      readonly error?: string;
    })
  | { readonly problems: readonly Problem[]; readonly warnings: readonly Problem[] }
  | VerifyAnswer;

export type VerifyAnswer =
  | { readonly answer: VerifyAnswers[VerifyQuestion['step']] }
  | { readonly refused: { readonly code: ErrorCode; readonly message: string } };

/** How functions are invoked. */
export interface InvokeFunction {
  /** Resolves when the event is accepted. */
  event(functionName: string, payload: ConnectorEvent): Promise<void>;
  /** Resolves with the function's answer; throws UNAVAILABLE when it failed. */
  request(functionName: string, payload: ConnectorEvent): Promise<unknown>;
}
