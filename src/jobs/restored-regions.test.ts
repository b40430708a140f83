import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  readRegionTerms,
  type RegionTerms,
  regionTermsPayload,
  requireRegions,
  requireTableRegions,
  restoredRegions,
} from './restored-regions.ts';

const CHECK: RegionTerms = { policy: 'check', available: ['eu', 'us'], primary: null };
const KEEP: RegionTerms = { ...CHECK, policy: 'keep' };
const REMOVE: RegionTerms = { ...CHECK, policy: 'remove' };

describe('regions of what is restored', () => {
  it('are those that nodes are in, unless they are kept for nothing or removed', () => {
    assert.deepEqual(restoredRegions(['us', 'eu'], CHECK), ['us', 'eu']);
    assert.throws(() => restoredRegions(['eu', 'moon', 'mars'], CHECK), {
      code: 'object_state',
      message: /missing regions detected: moon, mars$/,
    });
    assert.deepEqual(restoredRegions(['moon'], KEEP), ['moon']);
    assert.deepEqual(restoredRegions(['moon'], REMOVE), []);
  });

  it('are the default one for databases that come without', () => {
    const primary = { primary: 'us' };
    assert.deepEqual(restoredRegions([], { ...CHECK, ...primary }), ['us']);
    assert.deepEqual(restoredRegions(['eu'], { ...CHECK, ...primary }), ['eu']);
    assert.deepEqual(restoredRegions(['eu'], { ...REMOVE, ...primary }), ['us']);
  });

  it('let tables go where the same regions are, in the same order', () => {
    const move = (from: readonly string[], into: readonly string[], terms = CHECK) =>
      requireTableRegions({ from: { name: 'a', regions: from }, into: { name: 'b', regions: into } }, terms);
    move([], []);
    move([], ['eu']);
    move(['eu', 'us'], ['eu', 'us']);
    move(['eu'], [], KEEP);
    move(['eu'], [], REMOVE);
    assert.throws(() => move(['eu'], []), /into non-multi-region database "b"/);
    assert.throws(() => move(['eu', 'us'], ['us', 'eu']), /database "b", which has other regions/);
    assert.throws(() => move(['eu'], ['eu', 'us']), /database "b", which has other regions/);
  });

  it('are recorded with the job, and left alone by jobs that know of none', () => {
    assert.deepEqual(readRegionTerms(regionTermsPayload({ ...CHECK, primary: 'eu' })), {
      ...CHECK,
      primary: 'eu',
    });
    requireRegions(['moon'], readRegionTerms({}));
  });
});
