import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isVisible, parseXids, widened } from '../../../functions/postgres/visibility.ts';

const told = (xid: bigint) => Number(BigInt.asUintN(32, xid));
const halfTurn = 1n << 31n;
/** Ids of several turns of the 32-bit counter, many of them near its end. */
const xids = fc.oneof(
  fc.bigInt(3n, 1n << 40n),
  fc.tuple(fc.bigInt(1n, 300n), fc.bigInt(-2000n, 2000n)).map(([turn, off]) => (turn << 32n) + off),
);

describe('a transaction id of 32 bits', () => {
  test('is the one of 64 bits that is less than half a turn away', () => {
    fc.assert(
      fc.property(xids, fc.bigInt(-halfTurn, halfTurn - 1n), (near, off) => {
        const whole = near + off;
        fc.pre(whole > 2n);
        expect(widened(told(whole), near)).toBe(whole);
      }),
    );
  });
});

describe('what a snapshot sees', () => {
  test('is what had ended when it was made, also across the end of the counter', () => {
    fc.assert(
      fc.property(
        xids,
        fc.uniqueArray(fc.integer({ min: 1, max: 100 }), { maxLength: 10 }),
        fc.bigInt(-halfTurn, 200n),
        (xmax, back, off) => {
          const running = back.map((n) => xmax - BigInt(n)).sort((a, b) => (a < b ? -1 : 1));
          const xid = xmax + off;
          fc.pre(xid > 2n && xmax > 200n);
          const visible = parseXids(`${running[0] ?? xmax}:${xmax}:${running.join()}`);
          expect(isVisible(visible, told(xid))).toBe(xid < xmax && !running.includes(xid));
        },
      ),
    );
  });

  test.each([
    ['4294967290:4294967300:4294967295', 4294967290, true],
    ['4294967290:4294967300:4294967295', 4294967295, false],
    ['4294967290:4294967300:4294967295', 3, true],
    ['4294967290:4294967300:4294967295', 4, false],
    ['4294967290:4294967300:4294967295', 4294967289, true],
    ['10:10:', 9, true],
    ['10:10:', 10, false],
  ])('%s and %d: %s', (xids, xid, expected) => expect(isVisible(parseXids(xids), xid)).toBe(expected));
});
