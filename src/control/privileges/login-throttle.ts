/**
 * Slows down who guesses passwords, by the address they come from. Never by the user that they guess at: then anybody could lock anybody out.
 */
import { AppError, type Clock, type VirtualClusterId } from '../../base/index.ts';

export interface ThrottleLimits {
  /** Failures that an address may have at once before it has to wait. */
  readonly failuresMax: number;
  /** How many it may have in the long run. */
  readonly failuresPerMinute: number;
}

export const THROTTLE_LIMITS: ThrottleLimits = { failuresMax: 30, failuresPerMinute: 60 };

export interface LoginAttempt {
  /** Undefined for who comes by a socket file: these are let in by the kernel. */
  readonly address: string | undefined;
  readonly virtualClusterId: VirtualClusterId;
  readonly user: string;
}

interface Bucket {
  /** Attempts left; below zero when some wait. */
  tokens: number;
  atMs: number;
}

/** What is forgotten first costs an attacker with that many addresses nothing that he had not anyway. */
const ENTRIES_MAX = 10_000;
/** Who would have to wait longer is told so at once. */
const WAIT_MS_MAX = 10_000;

/**
 * A bucket of attempts for each address, from which every password that is looked at takes one, and to which it is given back when it was
 * right. A user who has logged in from an address has a bucket of its own there: a guesser behind the same gateway does not slow it down.
 */
export class LoginThrottle {
  readonly #clock: Clock;
  readonly #buckets = new Map<string, Bucket>();
  readonly #known = new Set<string>();
  limits: ThrottleLimits = THROTTLE_LIMITS;

  constructor(options: { clock: Clock }) {
    this.#clock = options.clock;
  }

  /**
   * Lets an attempt through when it is its turn; to be called before the password is looked at. @throws AppError `too_many_connections` when
   * its turn is too far away, whoever asks
   */
  async admit(attempt: LoginAttempt, options: { signal: AbortSignal }): Promise<void> {
    const key = this.#keyOf(attempt);
    if (key === undefined) return;
    const bucket = this.#bucket(key);
    const perMs = this.limits.failuresPerMinute / 60_000;
    const waitMs = Math.max(0, (1 - bucket.tokens) / perMs);
    if (waitMs > WAIT_MS_MAX) {
      throw new AppError('too_many_connections', 'too many logins from this address have failed', {
        hint: 'find the client that uses a wrong password, and try again in a minute',
      });
    }
    bucket.tokens -= 1;
    if (waitMs > 0) await this.#clock.sleep(waitMs, options);
  }

  /** The password was right. */
  succeeded(attempt: LoginAttempt): void {
    const key = this.#keyOf(attempt);
    if (key === undefined) return;
    const bucket = this.#bucket(key);
    bucket.tokens = Math.min(this.limits.failuresMax, bucket.tokens + 1);
    const known = personalKey(attempt);
    this.#known.delete(known);
    this.#known.add(known);
    forget(this.#known);
  }

  #keyOf(attempt: LoginAttempt): string | undefined {
    if (attempt.address === undefined) return undefined;
    const personal = personalKey(attempt);
    return this.#known.has(personal) ? personal : networkOf(attempt.address);
  }

  /** As full as it is by now, and the newest of all. */
  #bucket(key: string): Bucket {
    const { failuresMax, failuresPerMinute } = this.limits;
    const nowMs = this.#clock.monotonicMs();
    const bucket = this.#buckets.get(key) ?? { tokens: failuresMax, atMs: nowMs };
    const gained = ((nowMs - bucket.atMs) * failuresPerMinute) / 60_000;
    bucket.tokens = Math.min(failuresMax, bucket.tokens + gained);
    bucket.atMs = nowMs;
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    forget(this.#buckets);
    return bucket;
  }
}

function forget(entries: Map<string, unknown> | Set<string>): void {
  const [oldest] = entries.keys();
  if (entries.size > ENTRIES_MAX && oldest !== undefined) entries.delete(oldest);
}

function personalKey({ address = '', virtualClusterId, user }: LoginAttempt): string {
  return JSON.stringify([networkOf(address), virtualClusterId, user]);
}

/** Of IPv6 the first 64 bits: whoever has one address there has them all. */
export function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!address.includes(':')) return address;
  const [head = '', tail] = (address.split('%')[0] ?? '').replace(/(?:\d+\.){3}\d+$/, '0:0').split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - left.length - right.length);
  const groups = [...left, ...Array.from({ length: zeros }, () => '0'), ...right];
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`;
}
