import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Timestamp, VirtualClusterId, VirtualClusterName } from '../../base/index.ts';
import { NO_CAPABILITIES, type VirtualClusterRecord, type VirtualClusterState } from '../../catalog/index.ts';
import { type FoundDirectory, planHealing } from './healing.ts';

const AT = 1n as Timestamp;

function record(id: number, name: string, state: VirtualClusterState): VirtualClusterRecord {
  return {
    id: id as VirtualClusterId,
    name: name as VirtualClusterName,
    state,
    created: AT,
    capabilities: NO_CAPABILITIES,
    settingOverrides: new Map(),
    suspension: null,
    readerOf: null,
  };
}

function directory(id: number, name: string): FoundDirectory {
  return { id: id as VirtualClusterId, name: name as VirtualClusterName };
}

const READY: VirtualClusterState = { kind: 'ready', serviceMode: 'shared' };
const ADDING: VirtualClusterState = { kind: 'adding' };
const DROPPED: VirtualClusterState = { kind: 'dropped', dropped: AT, removeAfter: AT };
const REMOVING: VirtualClusterState = { kind: 'removing' };

describe('healing at start', () => {
  it('finds nothing to do when records and directories agree', () => {
    const records = [record(1, 'system', READY), record(3, 'main', READY), record(4, 'old', DROPPED)];
    const directories = [directory(1, 'system'), directory(3, 'main'), directory(4, 'old')];
    assert.deepEqual(planHealing({ records, directories }), []);
  });

  it('leaves a branch to the job that makes it', () => {
    const records = [record(3, 'a', ADDING), record(4, 'b', ADDING)];
    const inTheMaking = new Set([3, 4] as VirtualClusterId[]);
    assert.deepEqual(planHealing({ records, directories: [directory(3, 'a')], inTheMaking }), []);
  });

  it('misses no directory of a reader, and finishes its removal', () => {
    const reader = { readerOf: 3 as VirtualClusterId };
    const records = [
      record(3, 'main', READY),
      { ...record(4, 'main-readonly', READY), ...reader },
      { ...record(5, 'a-readonly', ADDING), ...reader },
      { ...record(6, 'b-readonly', REMOVING), ...reader },
    ];
    assert.deepEqual(planHealing({ records, directories: [directory(3, 'main')] }), [
      { kind: 'finish_removal', id: 6 },
    ]);
  });

  it('finishes an interrupted CREATE, on whichever side it died', () => {
    const records = [record(3, 'a', ADDING), record(4, 'b', ADDING)];
    assert.deepEqual(planHealing({ records, directories: [directory(3, 'a')] }), [
      { kind: 'finish_create', id: 3 },
      { kind: 'forget', id: 4 },
    ]);
  });

  it('finishes an interrupted removal, on whichever side it died', () => {
    const records = [record(3, 'a', REMOVING), record(4, 'b', REMOVING), record(5, 'c', DROPPED)];
    assert.deepEqual(planHealing({ records, directories: [directory(3, 'a')] }), [
      { kind: 'finish_removal', id: 3 },
      { kind: 'finish_removal', id: 4 },
      { kind: 'forget', id: 5 },
    ]);
  });

  it('finishes an interrupted RENAME', () => {
    const records = [record(3, 'new', READY)];
    assert.deepEqual(planHealing({ records, directories: [directory(3, 'old')] }), [
      { kind: 'rename_directory', id: 3, name: 'new' },
    ]);
  });

  it('never forgets a virtual cluster whose data is missing', () => {
    assert.deepEqual(planHealing({ records: [record(3, 'main', READY)], directories: [] }), [
      { kind: 'report_missing', id: 3 },
    ]);
  });

  it('adopts directories that no record names, under a name that is free', () => {
    const steps = planHealing({
      records: [record(5, 'main', READY)],
      directories: [
        directory(1, 'system'),
        directory(3, 'main'),
        directory(4, 'other'),
        directory(5, 'main'),
      ],
    });
    assert.deepEqual(steps, [
      { kind: 'adopt', id: 3, name: 'recovered-3' },
      { kind: 'adopt', id: 4, name: 'other' },
    ]);
  });

  it('removes only what a record says is being removed', () => {
    const states = fc.constantFrom(READY, ADDING, DROPPED, REMOVING);
    const ids = fc.uniqueArray(fc.integer({ min: 3, max: 12 }), { maxLength: 8 });
    fc.assert(
      fc.property(ids, ids, fc.array(states, { minLength: 10, maxLength: 10 }), (recorded, found, kinds) => {
        const records = recorded.map((id) => record(id, `vc-${id}`, kinds[id % 10] ?? READY));
        const directories = found.map((id) => directory(id, `vc-${id}`));
        for (const step of planHealing({ records, directories })) {
          const state = records.find(({ id }) => id === step.id)?.state.kind;
          if (step.kind === 'finish_removal') assert.equal(state, 'removing');
          if (step.kind === 'forget') assert.ok(!found.includes(step.id) && state !== 'ready');
          if (step.kind === 'adopt') assert.equal(state, undefined);
        }
      }),
    );
  });
});
