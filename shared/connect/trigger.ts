/** The trigger of a reader of the log that every new segment wakes. */
export const onData = 'on data';
