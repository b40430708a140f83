/** Every place where a test may cut a process off is one where a process passes, and where some test does cut it off. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import * as registry from './fault-point.ts';

const ROOT = resolve(import.meta.dirname, '../../..');
const OWN = new Set(['fault-point.ts', basename(import.meta.filename)]);

const LISTS = Object.entries(registry).flatMap(([name, value]) =>
  name.endsWith('_FAULT_POINTS') && Array.isArray(value) ? [[name, value as readonly string[]] as const] : [],
);

/** Texts of all files of ours below a folder, apart from the registry and this test. */
function textsBelow(folder: string): { readonly isTest: boolean; readonly text: string }[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && !OWN.has(basename(path)))
    .map((path) => ({
      isTest: path.endsWith('.test.ts'),
      text: readFileSync(join(ROOT, folder, path), 'utf8'),
    }));
}

/** A step that is called by what it has become, as the states of a job are: `job.` and a variable. */
const familyOf = (point: string) => `\`${point.slice(0, point.indexOf('.') + 1)}\${`;

describe('the registry of fault points', () => {
  const files = [...textsBelow('src'), ...textsBelow('test')];
  const tests = files.filter(({ isTest }) => isTest).map(({ text }) => text);
  const product = files.filter(({ isTest }) => !isTest).map(({ text }) => text);
  const all = LISTS.flatMap(([, points]) => points);

  it('names places that processes pass', () => {
    const passes = (point: string) =>
      product.some((text) => text.includes(`'${point}'`) || text.includes(`faultPoint(${familyOf(point)}`));
    assert.ok(all.length > 80, `${all.length} points`);
    assert.deepEqual(
      all.filter((point) => !passes(point)),
      [],
    );
    assert.ok(!passes('capture.never'), 'what is nowhere is found out');
  });

  it('names none that no test cuts off at', () => {
    const isCut = (list: string, point: string) =>
      tests.some((text) => text.includes(`'${point}'`) || new RegExp(`(\\bof |= |\\()${list}\\b`).test(text));
    const uncut = LISTS.flatMap(([list, points]) => points.filter((point) => !isCut(list, point)));
    assert.deepEqual(uncut, []);
    assert.ok(!isCut('NO_FAULT_POINTS', 'capture.never'), 'what is nowhere is found out');
  });
});
