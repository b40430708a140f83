import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type IncarnationId, isAppError, type Lsn, type Timestamp } from '../../base/index.ts';
import type { IncarnationRecord } from '../store-contract.ts';
import { encodeIncarnationRecord, parseIncarnationRecord } from './incarnation-record.ts';
import {
  encodeTimeIndexEntry,
  encodeTimeIndexHeader,
  isInOrder,
  parseTimeIndexEntries,
  parseTimeIndexEntry,
  parseTimeIndexHeader,
  TIME_INDEX_ENTRY_BYTES,
  TIME_INDEX_HEADER_BYTES,
  type TimeIndexEntry,
} from './time-index.ts';
import { FIXTURE_INCARNATION_RECORD, FIXTURE_TIME_INDEX } from './vault-fixtures.ts';

const isRefused = (error: unknown) => isAppError(error, 'data_corrupt', 'format_unsupported');
const golden = (name: string) => readFileSync(join(import.meta.dirname, '..', 'golden', name));

function flipped(bytes: Uint8Array, at: number, bit: number): Uint8Array {
  const damaged = Uint8Array.from(bytes);
  damaged[at] = (damaged[at] ?? 0) ^ (1 << bit);
  return damaged;
}

const lsn = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map((value) => value as Lsn);
const time = fc.bigInt({ min: -(1n << 62n), max: 1n << 62n }).map((value) => value as Timestamp);
const timelineId = fc.integer({ min: 1, max: 0xffff_ffff });
const uuid = fc.uuid().map((text) => text as IncarnationId);
const entry: fc.Arbitrary<TimeIndexEntry> = fc
  .record({
    kind: fc.constantFrom('commit' as const, 'idle' as const, 'clock_step' as const, 'segment_end' as const),
    timelineId,
    lsn,
    time,
    before: fc.bigInt({ min: 0n, max: 1n << 40n }),
  })
  .map(({ before, ...rest }) => {
    const hasOwnTime = rest.kind === 'commit' || rest.kind === 'clock_step';
    return { ...rest, ownTime: (hasOwnTime ? rest.time - before : rest.time) as Timestamp };
  });

describe('the time index', () => {
  it('gives back what was written', () => {
    fc.assert(
      fc.property(entry, (written) => {
        assert.deepEqual(parseTimeIndexEntry(encodeTimeIndexEntry(written)), written);
      }),
    );
    const header = fc.record({ incarnation: uuid, systemIdentifier: lsn.map(BigInt), beginLsn: lsn });
    fc.assert(
      fc.property(header, (written) => {
        assert.deepEqual(parseTimeIndexHeader(encodeTimeIndexHeader(written), 'x'), { ...written });
      }),
    );
  });

  it('refuses every flipped bit', () => {
    const header = encodeTimeIndexHeader(FIXTURE_TIME_INDEX.header);
    const bytes = encodeTimeIndexEntry(FIXTURE_TIME_INDEX.entries[2] as TimeIndexEntry);
    for (let bit = 0; bit < 8; bit++) {
      for (let at = 0; at < header.length; at++) {
        assert.throws(() => parseTimeIndexHeader(flipped(header, at, bit), 'x'), isRefused);
      }
      for (let at = 0; at < bytes.length; at++)
        assert.equal(parseTimeIndexEntry(flipped(bytes, at, bit)), null);
    }
  });

  it('refuses a later version by name', () => {
    const later = Buffer.from(encodeTimeIndexHeader(FIXTURE_TIME_INDEX.header));
    later.writeUInt16LE(2, 8);
    assert.throws(
      () => parseTimeIndexHeader(later, 'index-of-3'),
      (error) => isAppError(error, 'format_unsupported') && error.message.includes('index-of-3'),
    );
  });

  it('ends with its last whole entry that is in order, wherever it is cut and whatever follows', () => {
    const written = FIXTURE_TIME_INDEX.entries;
    const bytes = Buffer.concat(written.map(encodeTimeIndexEntry));
    for (let length = 0; length <= bytes.length; length++) {
      const whole = Math.floor(length / TIME_INDEX_ENTRY_BYTES);
      assert.deepEqual(parseTimeIndexEntries(bytes.subarray(0, length)), written.slice(0, whole));
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => {
        assert.deepEqual(
          parseTimeIndexEntries(Buffer.concat([bytes, noise])).slice(0, written.length),
          written,
        );
      }),
    );
    const [first, second] = written;
    const swapped = [second, first].map((each) => encodeTimeIndexEntry(each as TimeIndexEntry));
    assert.equal(parseTimeIndexEntries(Buffer.concat(swapped)).length, 1);
  });

  it('of any bytes is in order', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        const entries = parseTimeIndexEntries(bytes);
        for (const [index, each] of entries.entries()) {
          const before = entries[index - 1];
          assert.ok(before === undefined || isInOrder(before, each));
        }
      }),
    );
  });

  it('of release 26.2 is still read', () => {
    const bytes = golden('time-index-1.bin');
    const header = parseTimeIndexHeader(bytes.subarray(0, TIME_INDEX_HEADER_BYTES), 'golden');
    const entries = parseTimeIndexEntries(bytes.subarray(TIME_INDEX_HEADER_BYTES));
    assert.deepEqual({ header, entries }, FIXTURE_TIME_INDEX);
  });
});

describe('the record of an incarnation', () => {
  const record: fc.Arbitrary<IncarnationRecord> = fc
    .record({
      incarnation: uuid,
      parentIncarnation: fc.option(uuid),
      forkLsn: fc.option(lsn),
      systemIdentifier: lsn.map(BigInt),
      engineMajor: fc.integer({ min: 1, max: 99 }),
      lengths: fc.array(fc.bigInt({ min: 0n, max: 1n << 40n }), { maxLength: 5 }),
    })
    .map(({ lengths, ...rest }) => {
      let beginLsn = 0n;
      const timelines = lengths.map((length, index) => {
        beginLsn += length;
        return { timelineId: index + 1, beginLsn: beginLsn as Lsn };
      });
      return { ...rest, timelines };
    });

  it('gives back what was written', () => {
    fc.assert(
      fc.property(record, (written) => {
        assert.deepEqual(parseIncarnationRecord(encodeIncarnationRecord(written), 'x'), written);
      }),
    );
  });

  it('refuses every changed byte of its body, other keys, and texts that are none', () => {
    const text = encodeIncarnationRecord(FIXTURE_INCARNATION_RECORD);
    const body = text.indexOf('"body"');
    for (let at = body + 8; at < text.length - 4; at++) {
      if (/\s/.test(text.charAt(at))) continue;
      const other = text.charAt(at) === '7' ? '8' : '7';
      assert.throws(
        () => parseIncarnationRecord(text.slice(0, at) + other + text.slice(at + 1), 'x'),
        isRefused,
      );
    }
    for (const bad of [
      '',
      '{}',
      'null',
      text.slice(0, -3),
      text.replace('atoll-incarnation', 'atoll-other'),
    ]) {
      assert.throws(() => parseIncarnationRecord(bad, 'x'), isRefused);
    }
    fc.assert(
      fc.property(fc.string(), (noise) => assert.throws(() => parseIncarnationRecord(noise, 'x'), isRefused)),
    );
  });

  it('refuses a later version by name', () => {
    const text = encodeIncarnationRecord(FIXTURE_INCARNATION_RECORD).replace('"version": 1', '"version": 2');
    assert.throws(
      () => parseIncarnationRecord(text, 'wal/x/incarnation.json'),
      (error) => isAppError(error, 'format_unsupported') && error.message.includes('wal/x/incarnation.json'),
    );
  });

  it('of release 26.2 is still read', () => {
    const text = golden('incarnation-1.json').toString('utf8');
    assert.deepEqual(parseIncarnationRecord(text, 'golden'), FIXTURE_INCARNATION_RECORD);
  });
});
