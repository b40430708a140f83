import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { IncarnationId, Lsn } from '../base/index.ts';
import { commonHistory } from './common-history.ts';
import type { StreamLife } from './stream-terms.ts';

const lsn = (value: number) => BigInt(value) as Lsn;
const life = (name: string, parent: string | null = null, fork: number | null = null): StreamLife => ({
  incarnation: name as IncarnationId,
  parentIncarnation: parent as IncarnationId | null,
  forkLsn: fork === null ? null : lsn(fork),
});
const A = life('a');
const B = life('b', 'a', 100);
const C = life('c', 'b', 200);

describe('the common part of two histories', () => {
  it('ends where the other one left ours', () => {
    assert.deepEqual(commonHistory([A], { ownEndLsn: lsn(150), theirs: [B, A] }), {
      incarnation: 'a',
      lsn: 100n,
    });
    assert.deepEqual(commonHistory([A], { ownEndLsn: lsn(150), theirs: [C, B, A] }), {
      incarnation: 'a',
      lsn: 100n,
    });
    assert.deepEqual(commonHistory([B, A], { ownEndLsn: lsn(250), theirs: [C, B, A] }), {
      incarnation: 'b',
      lsn: 200n,
    });
  });

  it('ends where ours ends, when the other one went further', () => {
    assert.deepEqual(commonHistory([A], { ownEndLsn: lsn(90), theirs: [B, A] }), {
      incarnation: 'a',
      lsn: 90n,
    });
  });

  it('ends where we left the other one', () => {
    assert.deepEqual(commonHistory([B, A], { ownEndLsn: lsn(300), theirs: [A] }), {
      incarnation: 'a',
      lsn: 100n,
    });
  });

  it('ends where the first of two branches left their parent', () => {
    const other = life('d', 'a', 80);
    assert.deepEqual(commonHistory([B, A], { ownEndLsn: lsn(300), theirs: [other, A] }), {
      incarnation: 'a',
      lsn: 80n,
    });
  });

  it('is nothing between strangers, whatever they are called', () => {
    assert.equal(commonHistory([A], { ownEndLsn: lsn(150), theirs: [life('x')] }), null);
    assert.equal(commonHistory([B], { ownEndLsn: lsn(150), theirs: [life('x', 'y', 3)] }), null);
  });
});
