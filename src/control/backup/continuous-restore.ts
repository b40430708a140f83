/** What RESTORE FROM LATEST means in a collection that is published to continuously: any moment, not only those at which a backup ends. */
import { formatTimestamp, InputError, required, type Timestamp } from '../../base/index.ts';
import type { CollectionLocation } from '../../timeline/index.ts';
import type { RestorableMoment } from './backup-place.ts';
import type { CollectionCore } from './collection.ts';

/**
 * The newest base at or before the time; its log leads on to the time, or to the end when there is none.
 * @throws InputError `time_outside_window` naming the window; AppError `backup_not_found`
 */
export async function continuousMoment(
  { options }: CollectionCore,
  {
    collection,
    time,
    signal,
  }: { collection: CollectionLocation; time: Timestamp | null; signal: AbortSignal },
): Promise<RestorableMoment> {
  const { collectionReader, cluster } = options;
  const { bases, through } = await collectionReader.continuousWindow(collection, {
    key: cluster.key,
    time,
    signal,
  });
  const layer = bases.findLast(({ endTime }) => time === null || endTime <= time);
  const first = required(bases[0], 'a window begins with a base');
  if (layer !== undefined && (time === null || time <= through))
    return { layer, asOf: time, isContinuous: true, through };
  throw new InputError(
    'time_outside_window',
    `${formatTimestamp(time ?? through)} is outside the window of the continuous backup, which is from ${formatTimestamp(first.endTime)} to ${formatTimestamp(through)}`,
    { hint: 'name a moment in the window, or leave AS OF SYSTEM TIME out for its end' },
  );
}
