import { createReadStream, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { CancelledError, ERRORS } from '../../base/index.ts';
import { formatAddress, type NodeReport } from '../../daemon/index.ts';
import { defineCommand, type CommandContext } from '../command.ts';
import { freePort, NodeProcess } from '../demo/node-process.ts';
import { runStory } from '../demo/run-story.ts';
import { LEDGER_DATABASE, ORIGINAL, RESTORED, type Site, storyOf } from '../demo/story.ts';
import { switchFlag } from '../flags/flag.ts';
import { DEFAULT_HTTP_PORT, DEFAULT_SQL_PORT } from '../flags/server-flags.ts';
import { sqlUrl } from '../summary.ts';

/** How much of the end of the log is shown when something went wrong. */
const LOG_TAIL_BYTES = 8 * 1024;

/** The standby takes the ports beside the usual ones, and has no virtual cluster but system. */
const SITES = {
  primary: { portOffset: 0, flags: [] },
  standby: { portOffset: 1, flags: ['--virtualized-empty'] },
} as const satisfies Record<Site, { portOffset: number; flags: readonly string[] }>;

export const demoCommand = defineCommand({
  name: 'demo',
  usage: '[--once]',
  description: [
    'Starts two physical clusters in temporary folders, loads a ledger into the first, backs it up and restores it into a second virtual cluster. Then the second physical cluster follows the first, is failed over to, and failed back. Every row is compared each time. Then it keeps serving until Ctrl-C. Nothing is left behind.',
  ],
  examples: ['atoll demo', 'atoll demo --once'],
  flags: {
    once: switchFlag({ name: 'once', inEnvironment: false, help: 'Ends after the last step.' }),
  },
  positionalsMax: 0,
  async run({ once }, context) {
    const interrupted = new AbortController();
    const onSignal = () => interrupted.abort(new CancelledError('interrupted'));
    process.on('SIGINT', onSignal);
    process.on('SIGTERM', onSignal);
    const stores = sites((site) => mkdtempSync(join(tmpdir(), `atoll-demo-${site}-`)));
    try {
      return await runDemo({ stores, once, context, signal: interrupted.signal });
    } finally {
      for (const store of Object.values(stores)) rmSync(store, { recursive: true, force: true });
      process.off('SIGINT', onSignal);
      process.off('SIGTERM', onSignal);
    }
  },
});

interface DemoOptions {
  readonly stores: Readonly<Record<Site, string>>;
  readonly once: boolean;
  readonly context: CommandContext;
  readonly signal: AbortSignal;
}

async function runDemo({ stores, once, context, signal }: DemoOptions): Promise<number> {
  const { stdout, stderr } = context;
  stdout.write('1. Start two physical clusters of one node each: a primary, and a standby for later\n\n');
  const nodes: NodeProcess[] = [];
  try {
    const primary = await startNode(nodes, { site: 'primary', store: stores.primary, stdout });
    const standby = await startNode(nodes, { site: 'standby', store: stores.standby, stdout });
    const reports = await tellStart({ primary, standby }, stdout);
    await runStory({
      steps: storyOf(sites((site) => formatAddress(reports[site].sql))),
      addresses: sites((site) => reports[site].sql),
      stdout,
      monotonicMs: () => performance.now(),
      nowMs: () => Date.now(),
      signal,
    });
    stdout.write(formatEnd(reports, { once }));
    if (!once) await Promise.race([whenAborted(signal), ...nodes.map((node) => node.whenEnded())]);
    return 0;
  } catch (error) {
    if (signal.aborted) return ERRORS.cancelled.exit;
    for (const store of Object.values(stores)) await showLogTail(join(store, 'logs', 'atoll.log'), stderr);
    throw error;
  } finally {
    stdout.write('\nStopping.\n');
    await Promise.all(nodes.map((node) => node.stop()));
  }
}

/** Adds the node to `nodes` as soon as its process is there, so that whatever happens next stops it. */
async function startNode(
  nodes: NodeProcess[],
  { site, store, stdout }: { site: Site; store: string; stdout: Writable },
): Promise<NodeProcess> {
  const { portOffset, flags } = SITES[site];
  const argv = [
    'start-single-node',
    ...flags,
    '--insecure',
    '--log-to-stderr=none',
    `--store=${store}`,
    `--listen-addr=localhost:${await freePort(DEFAULT_SQL_PORT + portOffset)}`,
    `--http-addr=localhost:${await freePort(DEFAULT_HTTP_PORT + portOffset)}`,
  ];
  stdout.write(`   $ atoll ${argv.join(' ')}\n`);
  const node = new NodeProcess(argv);
  nodes.push(node);
  return node;
}

async function tellStart(
  { primary, standby }: Readonly<Record<Site, NodeProcess>>,
  stdout: Writable,
): Promise<Readonly<Record<Site, NodeReport>>> {
  const beganMs = performance.now();
  const [ofPrimary, ofStandby] = await Promise.all([primary.whenReady(), standby.whenReady()]);
  stdout.write(`     both serve after ${((performance.now() - beganMs) / 1000).toFixed(2)} s\n`);
  return { primary: ofPrimary, standby: ofStandby };
}

function formatEnd(
  { primary, standby }: Readonly<Record<Site, NodeReport>>,
  { once }: { once: boolean },
): string {
  const ledgerUrl = (report: NodeReport, name: string) =>
    sqlUrl(report, name).replace('/defaultdb', `/${LEDGER_DATABASE}`);
  const { host, port } = primary.http;
  const strings = `
Connect with any client of PostgreSQL:

   psql "${ledgerUrl(primary, ORIGINAL)}"
   psql "${ledgerUrl(primary, RESTORED)}"
   psql "${sqlUrl(primary, 'system')}"     # SHOW VIRTUAL CLUSTERS; SHOW JOBS; ...
   psql "${sqlUrl(standby, 'system')}"     # the second physical cluster's
   curl "http://${host}:${port}/_status/vars?cluster=system"
`;
  return once ? strings : `${strings}\nServing until Ctrl-C.\n`;
}

function sites<T>(make: (site: Site) => T): Record<Site, T> {
  return { primary: make('primary'), standby: make('standby') };
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
