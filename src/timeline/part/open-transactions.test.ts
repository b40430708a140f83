import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Lsn } from '../../base/index.ts';
import { OpenTransactions } from './open-transactions.ts';

const END = 10_000n as Lsn;
const lsn = (value: number) => BigInt(value) as Lsn;

function running(nextXid: number, xids: readonly number[], isOverflowed = false) {
  const oldestRunningXid = xids[0] ?? nextXid;
  return {
    nextXid,
    oldestRunningXid,
    latestCompletedXid: nextXid - 1,
    xids,
    subtransactionIds: [],
    isOverflowed,
  };
}

describe('transactions that are open where a log ends', () => {
  it('are not known before they were listed once', () => {
    const open = new OpenTransactions();
    open.write(7, lsn(10));
    assert.equal(open.quietLsn(END), null);
    open.list(running(8, []));
    assert.equal(open.quietLsn(END), END);
  });

  it('that began before the log keep everybody from knowing, until they end', () => {
    const open = new OpenTransactions();
    open.list(running(9, [5]));
    open.write(5, lsn(20));
    open.write(9, lsn(30));
    assert.equal(open.quietLsn(END), null);
    open.end(5);
    assert.equal(open.quietLsn(END), 30n);
  });

  it('that a crash has ended are forgotten with the next list, as far as it tells', () => {
    const open = new OpenTransactions();
    open.list(running(3, []));
    open.write(3, lsn(10));
    open.write(4, lsn(20));
    open.list(running(6, [4], true));
    assert.equal(open.quietLsn(END), 20n, '3 is before the oldest that runs');
    open.write(6, lsn(40));
    open.list(running(7, [6], false));
    assert.equal(open.quietLsn(END), 40n);
  });

  it('are compared on a circle', () => {
    const open = new OpenTransactions();
    open.list(running(4_294_967_290, []));
    open.write(4_294_967_290, lsn(10));
    open.write(5, lsn(20));
    open.list(running(6, [5]));
    assert.equal(open.quietLsn(END), 20n);
  });

  it('never wrote before the position that is given', () => {
    type Step = { readonly xid: number; readonly does: 'write' | 'end' | 'list' };
    const step: fc.Arbitrary<Step> = fc.record({
      xid: fc.integer({ min: 0, max: 9 }),
      does: fc.constantFrom('write', 'write', 'end', 'list'),
    });
    fc.assert(
      fc.property(fc.array(step), fc.nat(20), (steps, hidden) => {
        // The log is looked at from step `hidden` on only. Numbers are given in the order of the first writes.
        const seen = new OpenTransactions();
        const firsts = new Map<number, number>();
        const numbers = new Map<number, number>();
        let next = 3;
        for (const [at, { xid: who, does }] of steps.entries()) {
          const isSeen = at >= hidden;
          if (does === 'write') {
            if (!numbers.has(who)) numbers.set(who, next++);
            const xid = numbers.get(who) ?? 0;
            if (!firsts.has(xid)) firsts.set(xid, at);
            if (isSeen) seen.write(xid, lsn(at));
          } else if (does === 'end') {
            const xid = numbers.get(who);
            numbers.delete(who);
            if (xid === undefined) continue;
            firsts.delete(xid);
            if (isSeen) seen.end(xid);
          } else if (isSeen) {
            seen.list(
              running(
                next,
                [...firsts.keys()].toSorted((left, right) => left - right),
              ),
            );
          }
        }
        const quiet = seen.quietLsn(END);
        if (quiet === null) return;
        for (const first of firsts.values()) assert.ok(quiet <= lsn(first), `${quiet} after ${first}`);
      }),
    );
  });
});
