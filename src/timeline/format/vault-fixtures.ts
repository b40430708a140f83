/** What the golden files of the vault hold. */
import { type IncarnationId, type Lsn, parseTimestamp } from '../../base/index.ts';
import type { IncarnationRecord } from '../store-contract.ts';
import type { TimeIndexEntry, TimeIndexHeader } from './time-index.ts';

const INCARNATION = '0b1c2d3e-4f50-4162-8374-95a6b7c8d9e0' as IncarnationId;
const SYSTEM_IDENTIFIER = 7_710_575_709_987_891_340n;

const at = (seconds: string) => parseTimestamp(`2026-11-21 10:07:${seconds}+00`);

function entryOf(
  kind: TimeIndexEntry['kind'],
  place: { timelineId: number; lsn: bigint },
  times: { time: string; ownTime?: string },
): TimeIndexEntry {
  const { time, ownTime = time } = times;
  return { kind, timelineId: place.timelineId, lsn: place.lsn as Lsn, time: at(time), ownTime: at(ownTime) };
}

export const FIXTURE_TIME_INDEX: { header: TimeIndexHeader; entries: readonly TimeIndexEntry[] } = {
  header: {
    incarnation: INCARNATION,
    systemIdentifier: SYSTEM_IDENTIFIER,
    beginLsn: 0x200_07f0n as Lsn,
  },
  entries: [
    entryOf('commit', { timelineId: 1, lsn: 0x200_07f0n }, { time: '45.000001' }),
    entryOf('commit', { timelineId: 1, lsn: 0x210_0028n }, { time: '45.100001', ownTime: '45.099998' }),
    entryOf('segment_end', { timelineId: 1, lsn: 0x2ff_ff80n }, { time: '45.150000' }),
    entryOf('clock_step', { timelineId: 1, lsn: 0x300_1000n }, { time: '45.150000', ownTime: '40' }),
    entryOf('idle', { timelineId: 2, lsn: 0x300_2000n }, { time: '59.5' }),
  ],
};

export const FIXTURE_INCARNATION_RECORD: IncarnationRecord = {
  incarnation: INCARNATION,
  parentIncarnation: '1b1c2d3e-4f50-4162-8374-95a6b7c8d9e1' as IncarnationId,
  forkLsn: 0x16_b374_d848n as Lsn,
  systemIdentifier: SYSTEM_IDENTIFIER,
  engineMajor: 18,
  timelines: [
    { timelineId: 2, beginLsn: 0x16_b374_d848n as Lsn },
    { timelineId: 3, beginLsn: 0x17_0000_0028n as Lsn },
  ],
};
