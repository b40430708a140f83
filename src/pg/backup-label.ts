import { CorruptError, type Lsn, parseLsn } from '../base/index.ts';

/** What `pg_backup_stop` returns to be put into the copy as `backup_label`; recovery begins with it. */
export interface BackupLabel {
  /** Replay begins here. */
  readonly startLsn: Lsn;
  /** Name of the log segment with the start. */
  readonly startSegmentName: string;
  readonly checkpointLsn: Lsn;
  readonly timelineId: number;
  readonly label: string;
}

/** @throws CorruptError when a line that recovery needs is missing or malformed */
export function parseBackupLabel(text: string): BackupLabel {
  const start = lineOf(text, /^START WAL LOCATION: ([0-9A-F]+\/[0-9A-F]+) \(file ([0-9A-F]{24})\)$/m);
  const checkpoint = lineOf(text, /^CHECKPOINT LOCATION: ([0-9A-F]+\/[0-9A-F]+)$/m);
  const timeline = lineOf(text, /^START TIMELINE: (\d+)$/m);
  const label = lineOf(text, /^LABEL: (.*)$/m);
  return {
    startLsn: parseLsn(start[1] ?? ''),
    startSegmentName: start[2] ?? '',
    checkpointLsn: parseLsn(checkpoint[1] ?? ''),
    timelineId: Number(timeline[1]),
    label: label[1] ?? '',
  };
}

function lineOf(text: string, pattern: RegExp): RegExpExecArray {
  const match = pattern.exec(text);
  if (match === null) throw new CorruptError('backup_label lacks a line that recovery needs');
  return match;
}
