/** What is said of a replication stream, WITH ... or later by SET REPLICATION. */
import { InputError } from '../../base/index.ts';
import { type SettingType, decodeSettingValue, parseSettingInput } from '../../catalog/index.ts';
import type { StreamLimits } from '../../replication/index.ts';
import type { StreamOptions, Value } from '../../sql/index.ts';
import { settingInput } from '../values.ts';

const DAY_US = 86_400_000_000n;
const DURATION: SettingType = { kind: 'duration', minUs: 1000n, maxUs: 365n * DAY_US };

/** Null for what is not said. @throws InputError `parameter_invalid` */
export function streamLimitsOf({ retention, expirationWindow }: StreamOptions): StreamLimits {
  return {
    retentionUs: retention === undefined ? null : durationUs(retention, 'RETENTION'),
    expirationWindowUs:
      expirationWindow === undefined ? null : durationUs(expirationWindow, 'EXPIRATION WINDOW'),
  };
}

/** In microseconds, from a millisecond to a year. @throws InputError `parameter_invalid` */
export function durationUs(value: Value, what: string): bigint {
  const decoded = decodeSettingValue(DURATION, parseSettingInput(DURATION, settingInput(value, what)));
  if (typeof decoded === 'bigint') return decoded;
  throw new InputError('parameter_invalid', `${what} takes a duration`);
}
