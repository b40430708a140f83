import type { BackupSummary } from '../contract.ts';
import type { ManifestHead } from '../format/manifest-file.ts';
import type { BaseSummary } from '../store-contract.ts';

/** What jobs and statements see of a manifest. */
export function summaryOf({ header, objects, history }: ManifestHead): BackupSummary {
  const { totals } = header;
  return {
    subdirectory: header.subdirectory,
    baseSubdirectory: header.baseSubdirectory,
    startTime: header.startTime,
    endTime: header.endTime,
    targetLsn: header.targetLsn,
    timelineId: header.timelineId,
    logEndLsn: header.logEndLsn ?? null,
    revisionStart: history?.beginTime ?? null,
    replayBytes: header.targetLsn - header.startLsn,
    rows: totals.rows,
    indexEntries: totals.indexEntries,
    bytes: totals.bytes,
    storedBytes: totals.storedBytes,
    clusterId: header.clusterId,
    virtualClusterName: header.virtualClusterName,
    virtualClusterId: header.virtualClusterId,
    incarnation: header.incarnation,
    systemIdentifier: header.systemIdentifier,
    engineMajor: header.engine.major,
    release: header.release,
    selection: header.selection ?? null,
    // Rows have no label.
    isImage: header.backupLabel !== '',
    objects,
  };
}

/** The same of a base of a timeline store, with what decides where it leads. */
export function baseSummaryOf(head: ManifestHead): BaseSummary {
  const { startLsn, stopLsn, captureStartTime } = head.header;
  return { ...summaryOf(head), startLsn, stopLsn, captureStartTime };
}
