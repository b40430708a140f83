/** A capture that goes on where an earlier attempt at the same backup was broken off. */
import { isAppError } from '../../base/index.ts';
import type { Manifest } from '../format/manifest.ts';
import { type CaptureRequest, type CaptureTools, FULL_CAPTURE, type Planner } from './capture.ts';
import { OlderBase } from './older-base.ts';
import type { IncrementalRules } from './plan-onto.ts';

/**
 * What that attempt has copied whole is to this one what an older base is to an incremental one: pages that changed since it began are read
 * again. When nobody knows what changed, or another life of the data is served now, everything is.
 */
export function planResumed(
  resumed: Manifest,
  { request, tools, rules }: { request: CaptureRequest; tools: CaptureTools; rules: IncrementalRules },
): Planner {
  const older = new OlderBase(resumed);
  const { header } = resumed;
  return {
    readsAll: false,
    prepare: () =>
      Promise.resolve(async (start, { session }) => {
        const { incarnation, systemIdentifier } = request.source;
        const isSameLife =
          header.incarnation === incarnation &&
          header.timelineId === start.timelineId &&
          header.engine.catalogVersion === start.engine.catalogVersion &&
          header.startLsn <= start.startLsn;
        if (!isSameLife) return FULL_CAPTURE;
        const stretch = {
          incarnation,
          systemIdentifier,
          engineMajor: start.engine.major,
          timelineId: start.timelineId,
          beginLsn: header.startLsn,
          endLsn: start.startLsn,
        };
        const asked = { ...request, ...tools, incarnations: [], stretches: [stretch] };
        const { startLsn: fromLsn } = header;
        const segmentBytes = start.engine.walSegmentBytes;
        try {
          const changes = await rules.readChanges(session, { ...asked, fromLsn, segmentBytes });
          if (changes.kind === 'unknown') return FULL_CAPTURE;
          const { pages } = changes;
          return {
            older,
            isOlderOfSame: true,
            planFiles: (files) => rules.planIncremental(files, { older, changes: pages }),
          };
        } catch (error) {
          // Log that is gone or damaged: reading everything needs none.
          if (isAppError(error, 'data_corrupt')) return FULL_CAPTURE;
          throw error;
        }
      }),
  };
}
