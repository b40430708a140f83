import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isAppError, type Timestamp } from '../base/index.ts';
import {
  type VirtualClusterEvent,
  type VirtualClusterState,
  dataStateText,
  nextVirtualClusterState,
  serviceModeOf,
} from './virtual-cluster-state.ts';

type StateName = 'adding' | 'ready_none' | 'ready_shared' | 'dropped' | 'removing';
type Outcome = StateName | 'object_state' | 'object_in_use';

const AT = 1n as Timestamp;
const STATES: Record<StateName, VirtualClusterState> = {
  adding: { kind: 'adding' },
  ready_none: { kind: 'ready', serviceMode: 'none' },
  ready_shared: { kind: 'ready', serviceMode: 'shared' },
  dropped: { kind: 'dropped', dropped: AT, removeAfter: AT },
  removing: { kind: 'removing' },
};
const EVENTS: Record<VirtualClusterEvent['kind'], VirtualClusterEvent> = {
  directory_made: { kind: 'directory_made' },
  service_started: { kind: 'service_started' },
  service_stopped: { kind: 'service_stopped' },
  dropped: { kind: 'dropped', at: AT, removeAfter: AT },
  undropped: { kind: 'undropped' },
  removal_begun: { kind: 'removal_begun' },
};

const EXPECTED: Record<StateName, Record<VirtualClusterEvent['kind'], Outcome>> = {
  adding: {
    directory_made: 'ready_none',
    service_started: 'object_state',
    service_stopped: 'object_state',
    dropped: 'object_state',
    undropped: 'object_state',
    removal_begun: 'removing',
  },
  ready_none: {
    directory_made: 'ready_none',
    service_started: 'ready_shared',
    service_stopped: 'ready_none',
    dropped: 'dropped',
    undropped: 'object_state',
    removal_begun: 'removing',
  },
  ready_shared: {
    directory_made: 'ready_shared',
    service_started: 'ready_shared',
    service_stopped: 'ready_none',
    dropped: 'object_in_use',
    undropped: 'object_state',
    removal_begun: 'object_in_use',
  },
  dropped: {
    directory_made: 'object_state',
    service_started: 'object_state',
    service_stopped: 'object_state',
    dropped: 'dropped',
    undropped: 'ready_none',
    removal_begun: 'removing',
  },
  removing: {
    directory_made: 'object_state',
    service_started: 'object_state',
    service_stopped: 'object_state',
    dropped: 'object_state',
    undropped: 'object_state',
    removal_begun: 'removing',
  },
};

function outcomeOf(state: VirtualClusterState, event: VirtualClusterEvent): VirtualClusterState | string {
  try {
    return nextVirtualClusterState(state, event);
  } catch (error) {
    assert.ok(isAppError(error));
    return error.code;
  }
}

describe('states of a virtual cluster', () => {
  for (const [from, row] of Object.entries(EXPECTED)) {
    for (const [event, expected] of Object.entries(row)) {
      it(`${from} on ${event}: ${expected}`, () => {
        const outcome = outcomeOf(STATES[from as StateName], EVENTS[event as VirtualClusterEvent['kind']]);
        assert.deepEqual(outcome, expected in STATES ? STATES[expected as StateName] : expected);
      });
    }
  }

  it('show as documented', () => {
    assert.equal(dataStateText(STATES.adding), 'add');
    assert.equal(dataStateText(STATES.ready_shared), 'ready');
    assert.equal(dataStateText(STATES.dropped), undefined);
    assert.equal(serviceModeOf(STATES.ready_shared), 'shared');
    assert.equal(serviceModeOf(STATES.dropped), 'none');
  });
});
