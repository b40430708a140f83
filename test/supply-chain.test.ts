import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'node:test';
import { billOfMaterials, findProblems, productionPackages, readLock } from '../scripts/supply-chain.ts';

const LOCK_TEXT = readFileSync(join(resolve(import.meta.dirname, '..'), 'package-lock.json'), 'utf8');
const INTEGRITY = `sha512-${Buffer.alloc(64, 7).toString('base64')}`;

function lockOf(packages: Record<string, object>): string {
  return JSON.stringify({ lockfileVersion: 3, packages: { '': {}, ...packages } });
}

const sound = { version: '1.0.0', license: 'MIT', integrity: INTEGRITY };

function problemsOf(change: object): readonly string[] {
  return findProblems(productionPackages(readLock(lockOf({ 'node_modules/a': { ...sound, ...change } }))));
}

test('a licence that is not permissive, or not said, is found', () => {
  assert.deepEqual(problemsOf({}), []);
  for (const license of ['GPL-3.0-only', 'MIT AND GPL-2.0-only', 'UNLICENSED']) {
    assert.deepEqual(problemsOf({ license }), [`a@1.0.0 is under ${license}, which is not on the list`]);
  }
  for (const license of ['(MIT OR GPL-3.0-only)', 'MIT AND ISC'])
    assert.deepEqual(problemsOf({ license }), []);
  assert.deepEqual(problemsOf({ license: undefined }), ['a@1.0.0 does not say under which licence it is']);
  assert.deepEqual(problemsOf({ license: 'GPL-3.0-only', dev: true }), [], 'what is only developed with');
});

test('what is not pinned, comes from elsewhere or runs scripts is found', () => {
  assert.equal(problemsOf({ integrity: undefined }).length, 1);
  assert.equal(problemsOf({ integrity: 'sha1-x' }).length, 1);
  assert.equal(problemsOf({ resolved: 'git+ssh://git@example.org/a.git#1' }).length, 1);
  assert.equal(problemsOf({ hasInstallScript: true }).length, 1);
});

test('the tree of the product has none of these', () => {
  const packages = productionPackages(readLock(LOCK_TEXT));
  assert.ok(packages.length > 100);
  assert.deepEqual(findProblems(packages), []);
});

test('the bill of materials names everything once, with what needs what, and is the same each time', () => {
  const text = lockOf({
    'node_modules/a': { ...sound, dependencies: { b: '2' } },
    'node_modules/a/node_modules/b': { ...sound, version: '2.0.0' },
    'node_modules/b': sound,
    'node_modules/@s/c': { ...sound, dependencies: { b: '1', gone: '1' } },
    'node_modules/@s/c/node_modules/d': { ...sound, dependencies: { b: '1' } },
  });
  const product = { name: 'atoll', version: '1.0.0', licence: 'Apache-2.0' };
  const make = (lockText: string) =>
    JSON.parse(
      JSON.stringify(
        billOfMaterials({ packages: productionPackages(readLock(lockText)), product, lockText }),
      ),
    );
  const bill = make(text);
  assert.deepEqual(make(text), bill);
  assert.match(
    bill.serialNumber,
    /^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
  );
  const refs = bill.components.map((each: { 'bom-ref': string }) => each['bom-ref']);
  assert.equal(new Set(refs).size, 5);
  const needs = new Map<string, string[]>(
    bill.dependencies.map((each: { ref: string; dependsOn: string[] }) => [each.ref, each.dependsOn]),
  );
  assert.deepEqual(needs.get('pkg:npm/a@1.0.0#node_modules/a'), [
    'pkg:npm/b@2.0.0#node_modules/a/node_modules/b',
  ]);
  assert.deepEqual(needs.get('pkg:npm/%40s/c@1.0.0#node_modules/@s/c'), ['pkg:npm/b@1.0.0#node_modules/b']);
  assert.deepEqual(needs.get('pkg:npm/d@1.0.0#node_modules/@s/c/node_modules/d'), [
    'pkg:npm/b@1.0.0#node_modules/b',
  ]);
  const whole = make(LOCK_TEXT);
  for (const component of whole.components) {
    assert.match(component.purl, /^pkg:npm\/(?:%40[\w.-]+\/)?[\w.-]+@[\w.+-]+$/);
    assert.equal(component.hashes[0].content.length, 128);
    assert.equal(component.licenses.length, 1);
  }
});
