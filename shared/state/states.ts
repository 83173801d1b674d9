/** What an operator wants of a connector; Kafka Connect's target states. */
export const targetStates = ['STARTED', 'PAUSED', 'STOPPED'] as const;
export type TargetState = (typeof targetStates)[number];

export const verbs = ['pause', 'resume', 'stop'] as const;
export type Verb = (typeof verbs)[number];

/** Total: every verb is allowed in every state; repeating one changes nothing. */
export const nextTarget: Record<TargetState, Record<Verb, TargetState>> = {
  STARTED: { pause: 'PAUSED', resume: 'STARTED', stop: 'STOPPED' },
  PAUSED: { pause: 'PAUSED', resume: 'STARTED', stop: 'STOPPED' },
  STOPPED: { pause: 'PAUSED', resume: 'STARTED', stop: 'STOPPED' },
};

/** What a task's row says: whether its last run failed, and whether a run holds its lease now. */
export type TaskCondition = 'FAILED' | 'FREE' | 'HELD';

/** What status shows, in Kafka Connect's words plus PAUSING and STOPPING: the target is set, a run is still writing. */
export type TaskStatus = 'RUNNING' | 'PAUSING' | 'PAUSED' | 'STOPPING' | 'STOPPED' | 'FAILED' | 'UNASSIGNED';

export const taskStatus: Record<TargetState, Record<TaskCondition, TaskStatus>> = {
  // A free task of a started connector is asleep until its trigger: users of Kafka Connect read that as RUNNING.
  STARTED: { FREE: 'RUNNING', HELD: 'RUNNING', FAILED: 'FAILED' },
  PAUSED: { FREE: 'PAUSED', HELD: 'PAUSING', FAILED: 'FAILED' },
  STOPPED: { FREE: 'STOPPED', HELD: 'STOPPING', FAILED: 'STOPPED' },
};

/** What may be done to a connector, by its target and whether any task's lease is live. Offsets move only when nothing runs. */
export type Operation = 'run' | 'alterOffsets' | 'restart';

export const allows: Record<TargetState, Record<Operation, boolean>> = {
  STARTED: { run: true, alterOffsets: false, restart: true },
  PAUSED: { run: false, alterOffsets: true, restart: true },
  STOPPED: { run: false, alterOffsets: true, restart: true },
};
