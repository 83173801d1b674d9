import type { Problem } from '../connect/connector.ts';
import type { RunResult } from '../runtime/run.ts';

/** Why a task is run; only for its log. */
export type Reason = 'schedule' | 'data' | 'wake' | 'sweep' | 'manual';

/** What a connector's function is invoked with. */
export interface RunEvent {
  readonly connector: string;
  readonly task: number;
  readonly reason: Reason;
}

export interface LifecycleEvent {
  readonly connector: string;
  readonly lifecycle: 'check' | 'created' | 'deleted';
}

export type ConnectorEvent = RunEvent | LifecycleEvent;

export type ConnectorAnswer =
  | (Partial<Omit<RunResult, 'error'>> & {
      readonly outcome: RunResult['outcome'];
      readonly code?: string;
      readonly error?: string;
    })
  | { readonly problems: readonly Problem[] };

/** How functions are invoked. */
export interface InvokeFunction {
  /** Resolves when the event is accepted. */
  event(functionName: string, payload: ConnectorEvent): Promise<void>;
  /** Resolves with the function's answer; throws UNAVAILABLE when it failed. */
  request(functionName: string, payload: ConnectorEvent): Promise<unknown>;
}
