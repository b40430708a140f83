import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { ManualClock } from '../../../test/harness/manual-clock.ts';
import { scratchDirectory } from '../../../test/harness/scratch.ts';
import { isAppError, type Timestamp } from '../../base/index.ts';
import { parseBlobKey } from '../blob-key.ts';
import { memoryBlobStore } from '../memory.ts';
import { readBlob } from '../read.ts';
import { type Bucket, takeFrom } from './bucket.ts';
import { limitedBlobStore, takerOf } from './limited-store.ts';
import { createRateTable, type RateScope, setRateLimit } from './rate-table.ts';

const NEVER = new AbortController().signal;
const KEY = parseBlobKey('a/b');
const SCOPE: RateScope = { virtualClusterId: 3, provider: 's3', direction: 'write' };

describe('a bucket', () => {
  it('lets through what the rate brings and the burst allows, and neither more nor less', () => {
    const steps = fc.array(
      fc.record({ waitUs: fc.nat({ max: 3_000_000 }), bytes: fc.integer({ min: 1, max: 5000 }) }),
      {
        maxLength: 200,
      },
    );
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 10_000 }),
        fc.nat({ max: 20_000 }),
        steps,
        (rate, burst, tries) => {
          const limit = { rateBytes: BigInt(rate), burstBytes: BigInt(burst) };
          const largest = burst === 0 ? rate : burst;
          let bucket: Bucket | null = null;
          let [now, taken, last] = [0n as Timestamp, 0, 0];
          for (const { waitUs, bytes } of tries) {
            now = (now + BigInt(waitUs)) as Timestamp;
            const outcome = takeFrom(bucket, { limit, bytes: BigInt(bytes), now });
            bucket = outcome.bucket;
            if (outcome.kind === 'wait') {
              assert.ok(outcome.waitMs > 0);
              const later = (now + BigInt(outcome.waitMs) * 1000n) as Timestamp;
              assert.equal(
                takeFrom(bucket, { limit, bytes: 1n, now: later }).kind,
                'taken',
                'as soon as it was said',
              );
              continue;
            }
            [taken, last] = [taken + bytes, bytes];
            // What goes last may overdraw: it is owed, and waited for by those after it.
            assert.ok(taken - last < largest + (rate * Number(now)) / 1e6 + 1, `${taken} bytes in ${now} us`);
          }
        },
      ),
    );
  });

  it('brings nothing when the clock is set back, and goes on from there', () => {
    const limit = { rateBytes: 100n, burstBytes: 0n };
    const at = (us: bigint) => us as Timestamp;
    const { bucket } = takeFrom(null, { limit, bytes: 100n, now: at(10_000_000n) });
    const back = takeFrom(bucket, { limit, bytes: 1n, now: at(5_000_000n) });
    assert.equal(back.kind, 'wait');
    assert.equal(takeFrom(back.bucket, { limit, bytes: 1n, now: at(5_020_000n) }).kind, 'taken');
  });
});

describe('a limited store', () => {
  let folder: string;
  let files = 0;
  before(async () => {
    folder = await scratchDirectory('atoll-rates-');
  });
  after(() => rm(folder, { recursive: true, force: true }));

  async function newTable(): Promise<string> {
    const path = join(folder, String(files++), 'rates');
    await createRateTable(path);
    return path;
  }

  /** As another process of the node has it. */
  function newStore(path: string, clock: ManualClock) {
    const inner = memoryBlobStore({ displayUri: 's3://b' });
    const take = takerOf({ path, virtualClusterId: 3 }, { provider: 's3', clock });
    return limitedBlobStore(inner, take);
  }

  /** Lets all that can go on do so, then moves time, until it is done; gives the seconds that took. */
  async function secondsFor(clock: ManualClock, work: Promise<unknown>): Promise<number> {
    let isDone = false;
    const done = work.finally(() => (isDone = true));
    const beginMs = clock.monotonicMs();
    while (!isDone) {
      for (let turn = 0; turn < 50 && !isDone; turn++) await new Promise((resolve) => setImmediate(resolve));
      if (!isDone) clock.advance(10);
    }
    await done;
    return (clock.monotonicMs() - beginMs) / 1000;
  }

  async function* chunks(count: number, bytes: number): AsyncIterable<Uint8Array> {
    for (let index = 0; index < count; index++) yield new Uint8Array(bytes);
  }

  it('takes no time without a limit, and as long as the limit demands with one, over all processes', async () => {
    const path = await newTable();
    const clock = new ManualClock();
    const [one, other] = [newStore(path, clock), newStore(path, clock)];
    assert.equal(await secondsFor(clock, one.put(KEY, chunks(50, 1000), { signal: NEVER })), 0);
    setRateLimit(path, SCOPE, { rateBytes: 10_000n, burstBytes: 5000n });
    clock.advance(1000);
    const both = Promise.all(
      [one, other].map((store) => store.put(parseBlobKey('both'), chunks(50, 1000), { signal: NEVER })),
    );
    const seconds = await secondsFor(clock, both);
    // 100,000 bytes less the burst at 10,000 a second.
    assert.ok(seconds >= 9.3 && seconds <= 9.8, `${seconds} s`);
    // Reading has a limit of its own.
    assert.equal(await secondsFor(clock, readBlob(one, KEY, { bytesMax: 1e6, signal: NEVER })), 0);
    setRateLimit(path, { ...SCOPE, direction: 'read' }, { rateBytes: 25_000n, burstBytes: 0n });
    clock.advance(1000);
    const twice = async () => {
      for (let time = 0; time < 2; time++) await readBlob(one, KEY, { bytesMax: 1e6, signal: NEVER });
    };
    const seconds2 = await secondsFor(clock, twice());
    assert.ok(seconds2 >= 1 && seconds2 <= 1.3, `${seconds2} s`);
  });

  it('heeds a change while it is at work, and the end of the limit', async () => {
    const path = await newTable();
    const clock = new ManualClock();
    setRateLimit(path, SCOPE, { rateBytes: 1000n, burstBytes: 0n });
    const upload = await newStore(path, clock).beginUpload(KEY, { signal: NEVER });
    const work = (async () => {
      for await (const chunk of chunks(100, 1000)) await upload.append(chunk);
      await upload.commit();
    })();
    clock.advance(5000);
    setRateLimit(path, SCOPE, { rateBytes: 100_000n, burstBytes: 0n });
    const seconds = await secondsFor(clock, work);
    assert.ok(seconds < 5, `${seconds} s instead of a hundred`);
    const other = newStore(path, clock).put(KEY, chunks(1000, 1000), { signal: NEVER });
    setRateLimit(path, SCOPE, { rateBytes: 0n, burstBytes: 0n });
    assert.ok((await secondsFor(clock, other)) < 1);
  });

  it('stops waiting when it is cancelled, and waits for nobody else’s limit', async () => {
    const path = await newTable();
    const clock = new ManualClock();
    setRateLimit(path, SCOPE, { rateBytes: 1n, burstBytes: 0n });
    setRateLimit(path, { ...SCOPE, virtualClusterId: 4 }, { rateBytes: 1n, burstBytes: 0n });
    const cancelling = new AbortController();
    const work = newStore(path, clock).put(KEY, chunks(10, 1000), { signal: cancelling.signal });
    cancelling.abort();
    await assert.rejects(work, (error) => isAppError(error, 'cancelled'));
    setRateLimit(path, SCOPE, { rateBytes: 0n, burstBytes: 0n });
    assert.ok(
      (await secondsFor(clock, newStore(path, clock).put(KEY, chunks(10, 1000), { signal: NEVER }))) < 1,
    );
  });
});
