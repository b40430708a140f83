import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';

const CRASH = join(import.meta.dirname, 'crash.ts');
const LOG = join(import.meta.dirname, 'log/node-logger.ts');
const CLOCK = join(import.meta.dirname, 'clock.ts');

function crash(how: string): { status: number | null; stderr: string } {
  const program = `
    import { crashOnUnhandled } from ${JSON.stringify(CRASH)};
    import { NodeLog } from ${JSON.stringify(LOG)};
    import { systemClock } from ${JSON.stringify(CLOCK)};
    const stderr = { from: 'info', write: (text) => process.stderr.write(text) };
    crashOnUnhandled(new NodeLog({ clock: systemClock(), nodeId: 1, stderr }).logger);
    setInterval(() => undefined, 1000);
    ${how}`;
  return spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' });
}

test('what nobody handled is logged, and the process ends with its own code', () => {
  for (const how of [
    `queueMicrotask(() => { throw new Error('the reason'); });`,
    `void Promise.reject(new Error('the reason'));`,
  ]) {
    const { status, stderr } = crash(how);
    assert.equal(status, 70, stderr);
    assert.match(stderr, /^F\d{6} .* ⋮ \[T1,system,n1\] 1 {2}the daemon met an error that nobody handled/);
    assert.match(stderr, /Error: the reason/);
  }
});
