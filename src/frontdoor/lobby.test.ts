import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Lobby, type Pending } from './lobby.ts';

class Guest implements Pending {
  isTurnedAway = false;
  turnAway(): void {
    this.isTurnedAway = true;
  }
}

test('the oldest of the address with the most makes room', () => {
  const lobby = new Lobby();
  const flood = Array.from({ length: 5 }, () => new Guest());
  const honest = new Guest();
  lobby.enter(honest, { address: 'b', sinceMs: 0 });
  for (const [at, guest] of flood.entries()) lobby.enter(guest, { address: 'a', sinceMs: at });
  assert.equal(lobby.makeRoom({ nowMs: 1_000, isUrgent: false }), true);
  assert.deepEqual(
    [flood[0]?.isTurnedAway, flood[1]?.isTurnedAway, honest.isTurnedAway],
    [true, false, false],
  );
  assert.equal(lobby.makeRoom({ nowMs: 1_000, isUrgent: false }), false, 'the next has waited for 999 ms');
  assert.equal(lobby.makeRoom({ nowMs: 1_000, isUrgent: true }), true);
  assert.equal(lobby.size, 4);
});

test('who has left is turned away no more, and nothing of it is kept', () => {
  const lobby = new Lobby();
  const guest = new Guest();
  lobby.enter(guest, { address: 'a', sinceMs: 0 });
  lobby.leave(guest);
  lobby.leave(guest);
  assert.equal(lobby.size, 0);
  assert.equal(lobby.makeRoom({ nowMs: 10_000, isUrgent: true }), false);
  assert.equal(guest.isTurnedAway, false);
});
