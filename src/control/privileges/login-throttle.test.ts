import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Clock, Timestamp, VirtualClusterId } from '../../base/index.ts';
import { type LoginAttempt, LoginThrottle, networkOf } from './login-throttle.ts';

const NEVER = new AbortController().signal;

/** Time that passes when somebody waits for it. */
class SteppedClock implements Clock {
  atMs = 0;
  now = () => BigInt(this.atMs) as Timestamp;
  monotonicMs = () => this.atMs;
  async sleep(ms: number): Promise<void> {
    this.atMs += ms;
  }
}

const attempt = (address: string, user = 'root', id = 3): LoginAttempt => ({
  address,
  user,
  virtualClusterId: id as VirtualClusterId,
});

function rig(limits = { failuresMax: 3, failuresPerMinute: 60 }) {
  const clock = new SteppedClock();
  const throttle = new LoginThrottle({ clock });
  throttle.limits = limits;
  const fail = (who: LoginAttempt) => throttle.admit(who, { signal: NEVER });
  const succeed = async (who: LoginAttempt) => {
    await throttle.admit(who, { signal: NEVER });
    throttle.succeeded(who);
  };
  return { clock, throttle, fail, succeed };
}

test('the first failures cost nothing, later ones a second each', async () => {
  const { clock, fail } = rig();
  for (let count = 0; count < 3; count += 1) await fail(attempt('10.0.0.1'));
  assert.equal(clock.atMs, 0);
  for (let count = 0; count < 5; count += 1) await fail(attempt('10.0.0.1', `user${count}`));
  assert.equal(clock.atMs, 5_000);
});

test('another address does not wait, whichever user is guessed at', async () => {
  const { clock, fail, succeed } = rig();
  for (let count = 0; count < 10; count += 1) await fail(attempt('10.0.0.1'));
  const before = clock.atMs;
  await succeed(attempt('10.0.0.2'));
  assert.equal(clock.atMs, before);
});

test('who has logged in from an address is not slowed down by others there', async () => {
  const { clock, fail, succeed } = rig();
  await succeed(attempt('10.0.0.1', 'app'));
  for (let count = 0; count < 10; count += 1) await fail(attempt('10.0.0.1', 'root'));
  const before = clock.atMs;
  for (let count = 0; count < 50; count += 1) await succeed(attempt('10.0.0.1', 'app'));
  assert.equal(clock.atMs, before);
  // The same name in another virtual cluster is another user.
  await fail(attempt('10.0.0.1', 'app', 4));
  assert.ok(clock.atMs > before);
});

test('right passwords never use the attempts up', async () => {
  const { clock, succeed } = rig();
  for (let count = 0; count < 1_000; count += 1) await succeed(attempt('10.0.0.1', `user${count}`));
  assert.equal(clock.atMs, 0);
});

test('so many at once that they would wait long are refused', async () => {
  const clock = new SteppedClock();
  clock.sleep = () => new Promise(() => undefined);
  const throttle = new LoginThrottle({ clock });
  throttle.limits = { failuresMax: 3, failuresPerMinute: 60 };
  const outcomes: string[] = [];
  for (let count = 0; count < 100; count += 1) {
    throttle.admit(attempt('10.0.0.1'), { signal: NEVER }).then(
      () => outcomes.push('let through'),
      (error: { code: string }) => outcomes.push(error.code),
    );
  }
  await new Promise(setImmediate);
  assert.equal(outcomes.filter((outcome) => outcome === 'let through').length, 3);
  assert.equal(outcomes.filter((outcome) => outcome === 'too_many_connections').length, 100 - 3 - 10);
  clock.atMs += 60_000;
  await throttle.admit(attempt('10.0.0.1'), { signal: NEVER });
});

test('the socket file is not throttled', async () => {
  const { clock, fail } = rig();
  for (let count = 0; count < 100; count += 1) await fail({ ...attempt(''), address: undefined });
  assert.equal(clock.atMs, 0);
});

test('addresses are networks: one of IPv4, 64 bits of IPv6', () => {
  assert.equal(networkOf('192.0.2.7'), '192.0.2.7');
  assert.equal(networkOf('::ffff:192.0.2.7'), '192.0.2.7');
  assert.equal(networkOf('2001:db8:0:1::5'), networkOf('2001:DB8::1:ffff:0:0:1'));
  assert.notEqual(networkOf('2001:db8:0:1::5'), networkOf('2001:db8:0:2::5'));
  assert.equal(networkOf('fe80::1%eth0'), 'fe80:0:0:0::/64');
  assert.equal(networkOf('::1'), '0:0:0:0::/64');
  fc.assert(
    fc.property(fc.ipV6(), (address) => {
      assert.match(networkOf(address), /^(?:[0-9a-f]{1,4}:){4}:\/64$|^\d+\.\d+\.\d+\.\d+$/);
    }),
  );
});
