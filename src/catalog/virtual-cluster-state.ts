/**
 * The life of a virtual cluster, as the control plane records it. What is about to happen to its directory is recorded first, so that a
 * daemon that died in between knows what to finish. Described in docs/virtual-cluster-states.md.
 */
import type { Timestamp } from '../base/index.ts';
import { InputError, assertNever } from '../base/index.ts';

export type ServiceMode = 'none' | 'shared';

export type VirtualClusterState =
  /** Recorded; its directory is being made. Never acknowledged to anybody. */
  | { readonly kind: 'adding' }
  | { readonly kind: 'ready'; readonly serviceMode: ServiceMode }
  /** Hidden and out of service; its directory is kept until `removeAfter`. */
  | { readonly kind: 'dropped'; readonly dropped: Timestamp; readonly removeAfter: Timestamp }
  /** Its directory is being deleted; the record goes when it is gone. */
  | { readonly kind: 'removing' };

export type VirtualClusterEvent =
  | { readonly kind: 'directory_made' }
  | { readonly kind: 'service_started' }
  | { readonly kind: 'service_stopped' }
  | { readonly kind: 'dropped'; readonly at: Timestamp; readonly removeAfter: Timestamp }
  | { readonly kind: 'undropped' }
  | { readonly kind: 'removal_begun' };

/** The state after `event`; asked twice, the same answer. @throws InputError `object_in_use`, `object_state` */
export function nextVirtualClusterState(
  state: VirtualClusterState,
  event: VirtualClusterEvent,
): VirtualClusterState {
  switch (event.kind) {
    case 'directory_made':
      if (state.kind === 'adding') return { kind: 'ready', serviceMode: 'none' };
      return state.kind === 'ready' ? state : refuse(state, 'be made');
    case 'service_started':
      return state.kind === 'ready' ? { kind: 'ready', serviceMode: 'shared' } : refuse(state, 'be started');
    case 'service_stopped':
      return state.kind === 'ready' ? { kind: 'ready', serviceMode: 'none' } : refuse(state, 'be stopped');
    case 'dropped':
      if (state.kind === 'dropped') return state;
      if (state.kind !== 'ready') return refuse(state, 'be dropped');
      if (state.serviceMode !== 'none') throw inService();
      return { kind: 'dropped', dropped: event.at, removeAfter: event.removeAfter };
    case 'undropped':
      return state.kind === 'dropped'
        ? { kind: 'ready', serviceMode: 'none' }
        : refuse(state, 'be undropped');
    case 'removal_begun':
      if (state.kind === 'ready' && state.serviceMode !== 'none') throw inService();
      return { kind: 'removing' };
    default:
      return assertNever(event);
  }
}

/** As the `data_state` column shows it; undefined for what is hidden. */
export function dataStateText(state: VirtualClusterState): string | undefined {
  if (state.kind === 'adding') return 'add';
  return state.kind === 'ready' ? 'ready' : undefined;
}

export function serviceModeOf(state: VirtualClusterState): ServiceMode {
  return state.kind === 'ready' ? state.serviceMode : 'none';
}

function refuse(state: VirtualClusterState, what: string): never {
  throw new InputError('object_state', `a virtual cluster in state "${state.kind}" cannot ${what}`);
}

function inService(): InputError {
  return new InputError('object_in_use', 'the service of the virtual cluster is "shared"', {
    hint: 'stop it first: ALTER VIRTUAL CLUSTER … STOP SERVICE',
  });
}
