import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ATOLL } from '../../../test/harness/daemon.ts';
import { waitFor } from '../../../test/harness/wait.ts';

/** Runs the demonstration with a temporary folder of its own, which must be empty afterwards. */
async function demo(
  argv: readonly string[],
  whileRunning: (running: { output: () => string; interrupt: () => void }) => Promise<void>,
): Promise<{ code: number | null; output: string }> {
  const parent = mkdtempSync(join(tmpdir(), 'atoll-demo-test-'));
  const temporary = join(parent, 'tmp');
  mkdirSync(temporary);
  chmodSync(parent, 0o755); // As root, instances run as others, who pass through here.
  try {
    const child = spawn(ATOLL, ['demo', ...argv], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: temporary },
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += String(chunk)));
    child.stderr.on('data', (chunk: Buffer) => (output += String(chunk)));
    const closed = once(child, 'close');
    await whileRunning({ output: () => output, interrupt: () => child.kill('SIGINT') });
    const [code] = (await closed) as [number | null];
    assert.deepEqual(readdirSync(temporary), [], output);
    return { code, output };
  } finally {
    rmSync(parent, { recursive: true, force: true });
  }
}

test('the demonstration shows a backup and a restore of every row, and leaves nothing behind', async () => {
  const { code, output } = await demo(['--once'], async () => undefined);
  assert.equal(code, 0, output);
  assert.match(output, /BACKUP INTO 'nodelocal:\/\/1\/bank';\n[\s\S]*succeeded/);
  assert.match(output, /RESTORE FROM LATEST IN 'nodelocal:\/\/1\/bank';\n[\s\S]*succeeded/);
  assert.match(output, /Every row is back: the hashes are equal\.\n/);
  assert.match(
    output,
    /psql "postgresql:\/\/root@localhost:\d+\/ledger\?options=-ccluster%3Dbank-restored"\n/,
  );
});

test('an interrupt ends it at any time, and still nothing is left behind', async () => {
  const { code, output } = await demo([], async (running) => {
    await waitFor('the first statement', () => running.output().includes('CREATE VIRTUAL CLUSTER'));
    running.interrupt();
  });
  assert.equal(code, 130, output);
  assert.match(output, /Stopping\.\n$/);
});
