import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { RecordingLogger } from '../../../test/harness/control.ts';
import { scratchDirectory } from '../../../test/harness/scratch.ts';
import { systemClock } from '../../daemon/index.ts';
import { runWorker } from './bulk-worker.ts';
import { type Cell, cellOf, findCell, NOTHING } from './cell.ts';
import { type Confine, Confinement } from './confinement.ts';
import { SpareProcess } from './spare-process.ts';

const run = promisify(execFile);

/** Of Landlock: older kernels do not keep signals in. */
const ABI_OF_SIGNALS = 6;

async function abiOf(): Promise<number> {
  const script = new URL('./confine.pl', import.meta.url).pathname;
  return Number((await run('perl', [script, '--probe'])).stdout);
}

const logger = new RecordingLogger();
const confinement = new Confinement({ logger });
const confine = await confinement.confine();

describe('the cell of a worker', {
  skip: confine === null && 'this machine keeps no process in a cell',
}, () => {
  const cellsOf = confine as Confine; // Skipped where it is null.
  let scratch: string;
  let server: Server;
  let tcp: Server;
  before(async () => {
    scratch = await scratchDirectory('atoll-cell-');
    for (const name of ['read', 'write', 'other']) await mkdir(join(scratch, name));
    for (const name of ['read', 'other']) await writeFile(join(scratch, name, 'file'), name);
    await writeFile(join(scratch, 'shared'), 'before');
    await symlink(join(scratch, 'other'), join(scratch, 'write', 'link'));
    server = createServer((socket) => socket.end()).listen(join(scratch, 'socket'));
    tcp = createServer((socket) => socket.end()).listen(0, '127.0.0.1');
    await Promise.all([once(server, 'listening'), once(tcp, 'listening')]);
  });
  after(async () => {
    server.close();
    tcp.close();
    await rm(scratch, { recursive: true });
  });

  /** What becomes of expressions in a process in the cell: `ok`, or the code of the error. */
  async function attempt(cell: Partial<Cell>, attempts: Readonly<Record<string, string>>) {
    const lines = Object.entries(attempts).map(
      ([name, code]) => `try { await (${code}); told[${JSON.stringify(name)}] = 'ok' }
        catch (error) { told[${JSON.stringify(name)}] = error.code ?? String(error) }`,
    );
    const source = `const fs = require('node:fs'), path = require('node:path'), net = require('node:net');
      const at = (name) => path.join(${JSON.stringify(scratch)}, name);
      const reach = (target) => new Promise((resolve, reject) => {
        const socket = net.connect(target, () => { socket.destroy(); resolve(); }).on('error', reject);
      });
      const started = (program) => { const { error } = require('node:child_process').spawnSync(program, []); if (error) throw error; };
      void (async () => { const told = {}; ${lines.join('\n')}; fs.writeSync(1, JSON.stringify(told)); })();`;
    const command = cellsOf({ ...NOTHING, ...cell }, [process.execPath, '--eval', source]);
    const { stdout } = await run(command[0] ?? '', command.slice(1), { env: {} });
    return JSON.parse(stdout) as Record<string, string>;
  }

  it('holds the folders that it was given, and nothing else of the machine', async () => {
    const told = await attempt(
      { reads: [join(scratch, 'read')], writes: [join(scratch, 'write')], edits: [join(scratch, 'shared')] },
      {
        read: `fs.readFileSync(at('read/file'))`,
        'list what is above what it writes': `fs.readdirSync(at('.'))`,
        'write where it reads': `fs.writeFileSync(at('read/new'), '')`,
        'change what it reads': `fs.openSync(at('read/file'), 'r+')`,
        'remove what it reads': `fs.unlinkSync(at('read/file'))`,
        'read elsewhere': `fs.readFileSync(at('other/file'))`,
        'write elsewhere': `fs.writeFileSync(at('new'), '')`,
        'write into another folder by its own': `fs.writeFileSync(at('write/../other/new'), '')`,
        'read through a link': `fs.readFileSync(at('write/link/file'))`,
        'make folders and files': `fs.mkdirSync(at('write/a')) ?? fs.writeFileSync(at('write/a/b'), 'x')`,
        'rename between its folders': `fs.renameSync(at('write/a/b'), at('write/c'))`,
        'cut a file': `fs.truncateSync(at('write/c'), 0)`,
        'make a link': `fs.symlinkSync('/etc', at('write/etc'))`,
        'move away': `fs.renameSync(at('write/c'), at('c'))`,
        'another name elsewhere': `fs.linkSync(at('write/c'), at('c'))`,
        'change a single file': `fs.writeFileSync(at('shared'), 'after')`,
        'remove a single file': `fs.unlinkSync(at('shared'))`,
      },
    );
    assert.deepEqual(told, {
      read: 'ok',
      'list what is above what it writes': 'ok',
      'write where it reads': 'EACCES',
      'change what it reads': 'EACCES',
      'remove what it reads': 'EACCES',
      'read elsewhere': 'EACCES',
      'write elsewhere': 'EACCES',
      'write into another folder by its own': 'EACCES',
      'read through a link': 'EACCES',
      'make folders and files': 'ok',
      'rename between its folders': 'ok',
      'cut a file': 'ok',
      'make a link': 'EACCES',
      'move away': 'EACCES',
      'another name elsewhere': 'EACCES',
      'change a single file': 'ok',
      'remove a single file': 'EACCES',
    });
    assert.equal(await readFile(join(scratch, 'shared'), 'utf8'), 'after');
  });

  it('has no way to other processes, programs and servers', async () => {
    const attempts = {
      'our environment': `fs.readFileSync('/proc/${process.pid}/environ')`,
      'our memory': `fs.openSync('/proc/${process.pid}/mem', 'r+')`,
      signal: `process.kill(${process.pid}, 0)`,
      shell: `started('/bin/sh')`,
      'another runtime may run, and is in the same cell': `started(process.execPath)`,
      'server of this machine': `reach({ path: at('socket') })`,
      'server of the network': `reach({ host: '127.0.0.1', port: ${(tcp.address() as { port: number }).port} })`,
    };
    const none = await attempt({}, attempts);
    assert.deepEqual(none, {
      'our environment': 'EACCES',
      'our memory': 'EACCES',
      signal: (await abiOf()) < ABI_OF_SIGNALS ? 'ok' : 'EPERM',
      shell: 'EACCES',
      'another runtime may run, and is in the same cell': 'ok',
      'server of this machine': 'EACCES',
      'server of the network': 'EACCES',
    });
    const { 'server of this machine': local, 'server of the network': remote } = await attempt(
      { hasInstances: true },
      attempts,
    );
    assert.deepEqual([local, remote], ['ok', 'EACCES']);
    const network = await attempt({ hasNetwork: true }, attempts);
    assert.deepEqual([network['server of this machine'], network['server of the network']], ['EACCES', 'ok']);
  });

  it('lets a folder be made that is not there yet', async () => {
    const path = join(scratch, 'read/collection/of/backups');
    const told = await attempt(
      { writes: [path] },
      {
        make: `fs.mkdirSync(${JSON.stringify(path)}, { recursive: true })`,
        elsewhere: `fs.mkdirSync(at('made'))`,
      },
    );
    assert.deepEqual(told, { make: 'ok', elsewhere: 'EACCES' });
  });

  it('is that of the work: nothing that only reads what is stored writes it, and none that parses it has servers', () => {
    const place = { displayUri: 'nodelocal://1/c', directory: '/c' };
    const store = { virtualClusterId: 3, directory: '/t' };
    const made = (kind: string, request: unknown) =>
      cellOf({ kind, request } as Parameters<typeof cellOf>[0]);
    assert.deepEqual(made('materialize', { collection: place, targetDirectory: '/d' }), {
      ...NOTHING,
      reads: ['/c'],
      writes: ['/d'],
    });
    assert.deepEqual(made('rewind', { store, targetDirectory: '/d' }), {
      ...NOTHING,
      reads: ['/t'],
      writes: ['/d'],
    });
    assert.deepEqual(made('publish', { store, collection: place }), {
      ...NOTHING,
      reads: ['/t'],
      writes: ['/c'],
    });
    assert.deepEqual(made('list_files', { collection: place }), { ...NOTHING, reads: ['/c'] });
    const service = { ...place, service: { kind: 's3', keys: null } };
    assert.deepEqual(made('list_files', { collection: { places: [service, place] } }), {
      ...NOTHING,
      reads: ['/c'],
      hasNetwork: true,
      hasOwnRights: true,
    });
  });

  it('is left by no process that is kept: another folder is another process, also at the same path', async () => {
    const clock = systemClock();
    const spare = new SpareProcess({ clock });
    const make = async (name: string) => {
      const directory = join(scratch, name);
      for (const folder of ['base', 'global', 'pg_tblspc'])
        await mkdir(join(directory, folder), { recursive: true });
      return directory;
    };
    const [one, two] = [await make('one'), await make('two')];
    const pidOfCheck = async (dataDirectory: string) => {
      const work = { kind: 'check_directory', request: { dataDirectory } } as const;
      const { signal } = new AbortController();
      const onProgress = () => undefined;
      const options = { clock, logger, spare, confinement, signal, isLimited: false, onProgress };
      const outcome = await runWorker(work, options);
      assert.equal(outcome.kind, 'directory_checked');
      const cell = await findCell(cellOf(work));
      const kept = spare.take(cell);
      assert.ok(kept !== null);
      const status = await readFile(`/proc/${kept.pid}/status`, 'utf8');
      assert.match(status, /^NoNewPrivs:\t1$/m);
      assert.match(status, /^Seccomp:\t2$/m);
      spare.keep(kept, cell);
      return kept.pid;
    };
    const first = await pidOfCheck(one);
    assert.equal(await pidOfCheck(one), first);
    const second = await pidOfCheck(two);
    assert.notEqual(second, first);
    // The rules are for the folder that was there, whatever lies at its path now.
    await rm(two, { recursive: true });
    await make('two');
    assert.notEqual(await pidOfCheck(two), second);
    spare.take(await findCell(NOTHING));
  });
});

describe('where there are no cells', () => {
  it('what is no rule starts nothing', {
    skip: confine === null && 'there is no perl, or no Landlock',
  }, async () => {
    const script = new URL('./confine.pl', import.meta.url).pathname;
    const child = spawn('perl', [script, 'take:/', '--', process.execPath, '--version'], { stdio: 'ignore' });
    const [code] = (await once(child, 'close')) as [number];
    assert.equal(code, 126);
  });

  it('the log tells it once, and workers work', async () => {
    const recorded = new RecordingLogger();
    const none = new Confinement({ logger: recorded, perls: ['/nowhere/perl'] });
    assert.equal(await none.confine(), null);
    assert.equal(await none.confine(), null);
    assert.equal(recorded.lines.length, process.platform === 'linux' ? 1 : 0);
  });
});
