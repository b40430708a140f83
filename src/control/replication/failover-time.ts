/** Failover times as the statements take and print them: nanoseconds since 1970, with the ten digits of a logical counter behind the point. */
import type { Timestamp } from '../../base/index.ts';

/** `1695922878030920020.0000000000`; our clocks count microseconds. */
export function hlcText(time: Timestamp): string {
  return `${time * 1000n}.0000000000`;
}
