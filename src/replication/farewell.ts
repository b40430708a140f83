import { type Clock, type Logger, toError } from '../base/index.ts';
import { openSource } from './open-source.ts';
import { slotLeft } from './plain-server.ts';
import { parseSourceUri } from './source-address.ts';
import type { StreamRecord } from './stream-record.ts';
import type { StreamReport } from './stream-terms.ts';

/** What a source may take to hear that it need keep nothing more. */
const FAREWELL_MS_MAX = 5_000;

/** Tells the source that it need keep nothing more. One that cannot be reached notices by itself. */
export async function farewell(
  stream: StreamRecord,
  { clock, signal, logger }: { clock: Clock; signal: AbortSignal; logger: Logger },
): Promise<void> {
  const limit = new AbortController();
  const bounded = AbortSignal.any([signal, limit.signal]);
  const late = clock.sleep(FAREWELL_MS_MAX, { signal: bounded }).then(
    () => limit.abort(),
    () => undefined,
  );
  try {
    const { state, terms } = stream;
    await using source = await openSource(stream, { signal: bounded });
    // Nobody takes over: it is to serve again.
    if (state.kind === 'draining') await source.report(terms.streamId, givingUp(state.drainId));
    await source.dropStream(terms.streamId);
  } catch (error) {
    const isPlain = parseSourceUri(stream.sourceUri).kind === 'postgres';
    const left = isPlain ? `; run there: ${slotLeft(stream.terms)}` : '';
    const message = `the source was not told that the stream is over: ${toError(error).message}${left}`;
    if (isPlain) logger.warning(message);
    else logger.info(message);
  } finally {
    limit.abort();
    await late;
  }
}

/** A report that says nothing but that the source shall serve again. */
function givingUp(drainId: string): StreamReport {
  return { replicatedTime: null, replicatedLsn: null, drain: { id: drainId, isWanted: false } };
}
