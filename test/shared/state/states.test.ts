import { expect, test } from 'vitest';
import { allows, nextTarget, targetStates, taskStatus, verbs } from '../../../shared/state/states.ts';

const everyPair = targetStates.flatMap((state) => verbs.map((verb) => [state, verb] as const));

test.each(everyPair)('%s: %s leads to a target state, and repeating it changes nothing', (state, verb) => {
  const next = nextTarget[state][verb];
  expect(targetStates).toContain(next);
  expect(nextTarget[next][verb]).toBe(next);
});

test('a verb leads to the same state from everywhere', () => {
  for (const verb of verbs) expect(new Set(targetStates.map((state) => nextTarget[state][verb])).size).toBe(1);
});

test('the tables name every state, condition and operation, and nothing else', () => {
  expect(Object.keys(nextTarget).sort()).toEqual([...targetStates].sort());
  for (const state of targetStates) {
    expect(Object.keys(nextTarget[state]).sort()).toEqual([...verbs].sort());
    expect(Object.keys(taskStatus[state]).sort()).toEqual(['FAILED', 'FREE', 'HELD']);
    expect(Object.keys(allows[state]).sort()).toEqual(['alterOffsets', 'restart', 'run']);
  }
});

test('offsets may be altered only where nothing may run', () => {
  for (const state of targetStates) expect(allows[state].alterOffsets).toBe(!allows[state].run);
});

test('what is paused or stopped while a run holds the lease shows that it is not there yet', () => {
  expect([taskStatus.PAUSED.HELD, taskStatus.PAUSED.FREE]).toEqual(['PAUSING', 'PAUSED']);
  expect([taskStatus.STOPPED.HELD, taskStatus.STOPPED.FREE]).toEqual(['STOPPING', 'STOPPED']);
  expect(taskStatus.STARTED.FAILED).toBe('FAILED');
});
