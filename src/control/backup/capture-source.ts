import { AppError, type VirtualClusterId } from '../../base/index.ts';
import type { CaptureSource } from '../../timeline/index.ts';
import type { ControlOptions } from '../core.ts';

/**
 * What a base or backup of a virtual cluster is captured from.
 * @throws AppError `cannot_connect_now` when the virtual cluster does not run
 */
export function captureSource(
  options: ControlOptions,
  record: { id: VirtualClusterId; name: string },
): CaptureSource {
  const instance = options.instanceHost.get(record.id);
  if (instance?.state.kind !== 'running') {
    throw new AppError('cannot_connect_now', `virtual cluster "${record.name}" does not run`);
  }
  const { incarnation, systemIdentifier, engineMajor, forkLsn } = instance.identity;
  return {
    dataDirectory: instance.dataDirectory,
    socketDirectory: instance.socketDirectory,
    login: instance.login,
    virtualClusterId: record.id,
    virtualClusterName: record.name,
    incarnation,
    systemIdentifier,
    engineMajor,
    ...(instance.following === null ? {} : { isFollower: true, forkLsn }),
  };
}
