import { createReadStream, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { CancelledError, ERRORS } from '../../base/index.ts';
import type { NodeReport } from '../../daemon/index.ts';
import { defineCommand, type CommandContext } from '../command.ts';
import { freePort, NodeProcess } from '../demo/node-process.ts';
import { runStory } from '../demo/run-story.ts';
import { LEDGER_DATABASE, RESTORED, STORY } from '../demo/story.ts';
import { switchFlag } from '../flags/flag.ts';
import { DEFAULT_HTTP_PORT, DEFAULT_SQL_PORT } from '../flags/server-flags.ts';
import { sqlUrl } from '../summary.ts';

/** How much of the end of the log is shown when something went wrong. */
const LOG_TAIL_BYTES = 8 * 1024;

export const demoCommand = defineCommand({
  name: 'demo',
  usage: '[--once]',
  description: [
    'Starts a cluster in a temporary folder, creates a virtual cluster, loads a ledger into it, backs it up, destroys it, restores it into a second one and compares every row. Then it keeps serving until Ctrl-C. Nothing is left behind.',
  ],
  examples: ['atoll demo', 'atoll demo --once'],
  flags: {
    once: switchFlag({ name: 'once', inEnvironment: false, help: 'Ends after the last step.' }),
  },
  positionalsMax: 0,
  async run({ once }, context) {
    const store = mkdtempSync(join(tmpdir(), 'atoll-demo-'));
    try {
      return await runDemo({ store, once, context });
    } finally {
      rmSync(store, { recursive: true, force: true });
    }
  },
});

async function runDemo(options: { store: string; once: boolean; context: CommandContext }): Promise<number> {
  const { store, once, context } = options;
  const { stdout, stderr } = context;
  const interrupted = new AbortController();
  const onSignal = () => interrupted.abort(new CancelledError('interrupted'));
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  const node = await startNode(store, stdout);
  try {
    const report = await tellStart(node, stdout);
    await runStory({
      steps: STORY,
      address: report.sql,
      stdout,
      monotonicMs: () => performance.now(),
      signal: interrupted.signal,
    });
    stdout.write(formatEnd(report, { once }));
    if (!once) await Promise.race([whenAborted(interrupted.signal), node.whenEnded()]);
    return 0;
  } catch (error) {
    if (interrupted.signal.aborted) return ERRORS.cancelled.exit;
    await showLogTail(join(store, 'logs', 'atoll.log'), stderr);
    throw error;
  } finally {
    stdout.write('\nStopping.\n');
    await node.stop();
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}

async function startNode(store: string, stdout: Writable): Promise<NodeProcess> {
  const argv = [
    'start-single-node',
    '--insecure',
    '--log-to-stderr=none',
    `--store=${store}`,
    `--listen-addr=localhost:${await freePort(DEFAULT_SQL_PORT)}`,
    `--http-addr=localhost:${await freePort(DEFAULT_HTTP_PORT)}`,
  ];
  stdout.write(`1. Start a cluster of one node\n\n   $ atoll ${argv.join(' ')}\n`);
  return new NodeProcess(argv);
}

async function tellStart(node: NodeProcess, stdout: Writable): Promise<NodeReport> {
  const beganMs = performance.now();
  const report = await node.whenReady();
  stdout.write(`     serving after ${((performance.now() - beganMs) / 1000).toFixed(2)} s\n`);
  return report;
}

function formatEnd(report: NodeReport, { once }: { once: boolean }): string {
  const restored = sqlUrl(report, RESTORED).replace('/defaultdb', `/${LEDGER_DATABASE}`);
  const strings = `
Connect with any client of PostgreSQL:

   psql "${restored}"
   psql "${sqlUrl(report, 'system')}"     # SHOW VIRTUAL CLUSTERS; SHOW JOBS; ...
   curl "http://${report.http.host}:${report.http.port}/_status/vars?cluster=system"
`;
  return once ? strings : `${strings}\nServing until Ctrl-C.\n`;
}

async function whenAborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  signal.addEventListener('abort', () => resolve(), { once: true });
  await promise;
}

async function showLogTail(path: string, stderr: Writable): Promise<void> {
  try {
    const start = Math.max(0, statSync(path).size - LOG_TAIL_BYTES);
    let text = '';
    for await (const chunk of createReadStream(path, { start })) text += String(chunk);
    stderr.write(`\nThe end of ${path}:\n${text}`);
  } catch {
    stderr.write(`\nThere is no log at ${path}.\n`);
  }
}
