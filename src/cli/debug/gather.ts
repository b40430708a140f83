/** Gathers what support needs of a node: from its files, and from itself while it runs. */
import { closeSync, fstatSync, openSync, readdirSync, readSync, statfsSync, statSync } from 'node:fs';
import os from 'node:os';
import { basename, dirname, join } from 'node:path';
import { AppError, toError, withoutSensitive } from '../../base/index.ts';
import { askForFigures, askForReport, type NodeReport } from '../../daemon/index.ts';
import { quoteName } from '../../sql/index.ts';
import { socketDirectoryOf } from '../flags/client-flags.ts';
import { productVersion } from '../product.ts';
import { SqlSession } from '../sql/session.ts';
import { DEFAULT_TARGET, socketTarget } from '../sql/target.ts';
import type { Archive } from './archive.ts';
import { ABOUT_EACH, IN_EACH, NODE_QUESTIONS, PERSONAL_COLUMNS } from './questions.ts';

export interface GatherOptions {
  readonly store: string;
  /** Where the log lies when the node does not run to tell it. */
  readonly logDirectory: string | undefined;
  /** Of all log files together; the newest come first. */
  readonly logBytesMax: number;
  /** Leaves out what may tell of users and their data. */
  readonly isRedacted: boolean;
}

/** What may be looked for in the folder of the log. */
const LOG_FILE = /^(?:atoll(?:-audit)?(?:\.\d+)?\.log|postgres-\d+\.log(?:\.\d)?|report\..*\.json)$/;
const CHUNK_BYTES = 1024 * 1024;
const REDACTED = '×';

/** Puts everything into the archive. What could not be had is told in `errors.txt`: half of it is better than nothing. */
export async function gather(
  archive: Archive,
  options: GatherOptions,
): Promise<{ readonly errors: readonly string[] }> {
  const errors: string[] = [];
  const attempt = async <T>(what: string, get: () => T | Promise<T>): Promise<T | undefined> => {
    try {
      return await get();
    } catch (error) {
      // That the archive itself cannot be written is no detail.
      if (error instanceof AppError && error.code === 'io') throw error;
      errors.push(`${what}: ${toError(error).message}`);
      return undefined;
    }
  };
  archive.add('machine.json', json(await attempt('the machine', () => machine(options.store))));
  const report = await attempt('the node', () => askForReport(options.store));
  if (report !== undefined) {
    archive.add('node.json', json(report));
    const figures = await attempt('figures', () => askForFigures(options.store));
    if (figures !== undefined) archive.add('figures.txt', figures);
    await askBySql(archive, { options, report, attempt });
  }
  const logDirectory = report === undefined ? options.logDirectory : dirname(report.logFile);
  await attempt('logs', () => addLogs(archive, logDirectory ?? join(options.store, 'logs'), options));
  if (errors.length > 0) archive.add('errors.txt', errors.map((error) => `${error}\n`).join(''));
  return { errors };
}

type Attempt = <T>(what: string, get: () => T | Promise<T>) => Promise<T | undefined>;

async function askBySql(
  archive: Archive,
  { options, report, attempt }: { options: GatherOptions; report: NodeReport; attempt: Attempt },
): Promise<void> {
  if (!report.isInitialized) return;
  const ask = async (session: SqlSession, name: string, text: string) => {
    const rows = await attempt(name, () => rowsOf(session, text, options));
    if (rows !== undefined) archive.add(`${name}.json`, json(rows));
    return rows ?? [];
  };
  const session = await attempt('the system virtual cluster', () =>
    connect(options.store, '-ccluster=system'),
  );
  if (session === undefined) return;
  await using system = session;
  let names: readonly string[] = [];
  for (const [name, text] of Object.entries(NODE_QUESTIONS)) {
    const rows = await ask(system, name, text);
    // There is a row for each capability.
    if (name === 'virtual-clusters') names = [...new Set(rows.map((row) => row['name'] ?? ''))];
  }
  for (const name of names) {
    for (const [what, textOf] of Object.entries(ABOUT_EACH))
      await ask(system, `virtual-clusters/${name}/${what}`, textOf(quoteName(name)));
    const within = await attempt(`virtual cluster ${name}`, () =>
      connect(options.store, name === 'system' ? '-ccluster=system' : `-ccluster=${name} -cauthority=system`),
    );
    if (within === undefined) continue;
    await using own = within;
    for (const [what, text] of Object.entries(IN_EACH))
      await ask(own, `virtual-clusters/${name}/${what}`, text);
  }
}

/** As the operator, by the local socket. */
function connect(store: string, options: string): Promise<SqlSession> {
  const target = socketTarget(DEFAULT_TARGET, socketDirectoryOf(store));
  return SqlSession.connect(
    { ...target, options },
    {
      askPassword: () =>
        Promise.reject(new AppError('authorization_invalid', 'the local socket asked for a password')),
      onNotice: () => undefined,
      onNotification: () => undefined,
    },
  );
}

async function rowsOf(
  session: SqlSession,
  text: string,
  { isRedacted }: GatherOptions,
): Promise<readonly Readonly<Record<string, string | null>>[]> {
  const { columns, rows } = await session.query(text);
  return rows.map((row) =>
    Object.fromEntries(
      columns.map(({ name }, at) => [
        name,
        isRedacted && PERSONAL_COLUMNS.has(name) ? REDACTED : (row[at] ?? null),
      ]),
    ),
  );
}

function machine(store: string): object {
  const { bsize, blocks, bavail, files, ffree } = statfsSync(store);
  return {
    atoll: productVersion(),
    node: process.versions.node,
    platform: `${process.platform}-${process.arch}`,
    kernel: os.release(),
    cpus: os.cpus().length,
    memoryBytes: os.totalmem(),
    memoryFreeBytes: os.freemem(),
    loadAverage: os.loadavg(),
    uptimeSeconds: os.uptime(),
    time: new Date().toISOString(),
    storeDisk: { bytes: bsize * blocks, freeBytes: bsize * bavail, files, freeFiles: ffree },
  };
}

function addLogs(archive: Archive, directory: string, { logBytesMax, isRedacted }: GatherOptions): void {
  let left = logBytesMax;
  const found = readdirSync(directory)
    .filter((name) => LOG_FILE.test(name))
    .map((name) => ({ path: join(directory, name), at: statSync(join(directory, name)).mtimeMs }))
    .toSorted((a, b) => b.at - a.at);
  for (const { path } of found) {
    if (left <= 0) break;
    const fd = openSync(path, 'r');
    try {
      const bytes = Math.min(fstatSync(fd).size, left);
      left -= bytes;
      // The node's own PostgreSQL logs carry no marks: every word may be of users.
      const isMarked = !basename(path).startsWith('postgres-');
      if (isRedacted && !isMarked) continue;
      const pieces = lastOf(fd, bytes);
      archive.addPieces(`logs/${basename(path)}`, isRedacted ? redacted(pieces) : pieces);
    } finally {
      closeSync(fd);
    }
  }
}

/** The last bytes of a file, from its present end. */
function* lastOf(fd: number, bytes: number): Iterable<Uint8Array> {
  const end = fstatSync(fd).size;
  for (let at = Math.max(end - bytes, 0); at < end; ) {
    const piece = Buffer.alloc(Math.min(CHUNK_BYTES, end - at));
    const read = readSync(fd, piece, 0, piece.length, at);
    if (read === 0) return;
    at += read;
    yield piece.subarray(0, read);
  }
}

/** Whole lines only: a mark that is cut in two would be none. */
function* redacted(pieces: Iterable<Uint8Array>): Iterable<Uint8Array> {
  const decoder = new TextDecoder();
  let rest = '';
  for (const piece of pieces) {
    const text = rest + decoder.decode(piece, { stream: true });
    const end = text.lastIndexOf('\n') + 1;
    rest = text.slice(end);
    yield Buffer.from(withoutSensitive(text.slice(0, end)));
  }
  yield Buffer.from(withoutSensitive(rest + decoder.decode()));
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}
