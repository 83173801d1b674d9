/** The trigger of a reader of the log that every new segment wakes. */
export const onData = 'on data';

/** Whether a connector runs at the moments that somebody chose for it, and at no others: its trigger is `manual`, or times. */
export const choosesMoment = (trigger: string): boolean => trigger === 'manual' || trigger.startsWith('cron ');
