/**
 * Keeps processes of bulk work in their cells by the kernel (Landlock and a filter of system calls on Linux): whoever takes one over, by a
 * fault in what it parses, gets what is in its cell and no more. Node.js calls neither, and both have to be taken on before a process has
 * threads: so a small program that does becomes the worker. See docs/decisions/0210-cells-of-workers.md.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Logger } from '../../base/index.ts';
import { nodeCredentialFiles } from '../../blob/index.ts';
import { type Cell, foldersAbove, NOTHING } from './cell.ts';
import { compileCacheDirectory, keepCompiledCode } from './compile-cache.ts';

const PERLS = ['/usr/bin/perl', '/usr/local/bin/perl', '/bin/perl'];
const SCRIPT = fileURLToPath(new URL('./confine.pl', import.meta.url));
const INSTALLATION = fileURLToPath(new URL('../../../', import.meta.url));

/** What any program of the machine reads: its libraries, names of hosts, whom to believe, what the kernel tells about the machine and itself. */
const MACHINE = [
  '/usr',
  '/lib',
  '/lib32',
  '/lib64',
  '/nix/store',
  '/gnu/store',
  '/etc/ld.so.cache',
  '/etc/ssl/openssl.cnf',
  '/etc/ssl/certs',
  '/etc/pki/tls/openssl.cnf',
  '/etc/pki/tls/certs',
  '/etc/pki/ca-trust',
  '/etc/ca-certificates',
  '/etc/crypto-policies',
  '/etc/resolv.conf',
  '/etc/hosts',
  '/etc/host.conf',
  '/etc/nsswitch.conf',
  '/etc/gai.conf',
  '/etc/services',
  '/etc/protocols',
  '/etc/localtime',
  '/etc/passwd',
  '/etc/group',
  '/run/systemd/resolve',
  '/run/resolvconf',
  '/run/NetworkManager/resolv.conf',
  '/proc/self',
  '/proc/pressure',
  '/proc/meminfo',
  '/proc/cpuinfo',
  '/proc/stat',
  '/proc/sys',
  '/sys/fs/cgroup',
  '/sys/devices/system',
  '/dev/urandom',
  '/dev/random',
  '/dev/zero',
];
const MACHINE_EDITS = ['/dev/null', '/proc/self/autogroup'];
/** The runtime, and what the kernel loads it with. No other program can be started. */
const PROGRAMS = [
  process.execPath,
  '/lib64/ld-linux-x86-64.so.2',
  '/lib/ld-linux-aarch64.so.1',
  '/lib/ld-musl-x86_64.so.1',
  '/lib/ld-musl-aarch64.so.1',
];
/** Of the home of our user and of the machine: where services' own programs keep rights, and where what runs containers puts them. */
const OWN_RIGHTS_AT_HOME = ['.aws', '.azure', '.config/gcloud'];
const OWN_RIGHTS = ['/run/secrets', '/var/run/secrets', '/var/lib/waagent'];

const AF_UNIX = 1;
/** Addresses of both lengths, and asking the kernel which of them there are. */
const NETWORK_FAMILIES = [2, 10, 16];

/** Words that a process is started with, the program first. */
export type Confine = (cell: Cell, command: readonly string[]) => readonly string[];

export class Confinement {
  readonly #logger: Logger;
  readonly #perls: readonly string[];
  #tried: Promise<Confine | null> | null;

  constructor(options: {
    readonly logger: Logger;
    /** On unless set to false; nothing is told then. */
    readonly isWanted?: boolean;
    readonly perls?: readonly string[];
  }) {
    const { logger, isWanted = true, perls = PERLS } = options;
    this.#logger = logger;
    this.#perls = perls;
    this.#tried = isWanted ? null : Promise.resolve(null);
  }

  /** Null where the machine cannot do it, which the log tells once. It is tried when it is first asked for. */
  confine(): Promise<Confine | null> {
    this.#tried ??= this.#try();
    return this.#tried;
  }

  async #try(): Promise<Confine | null> {
    if (process.platform !== 'linux') return null; // Nobody there expects it.
    const perl = this.#perls.find((path) => existsSync(path));
    const problem =
      perl === undefined ? `it takes perl, in one of ${this.#perls.join(', ')}` : await problemOf(perl);
    if (perl !== undefined && problem === null) {
      keepCompiledCode();
      return (cell, command) => wordsFor(perl, { cell, command });
    }
    this.#logger.warning(`bulk workers are not kept in cells: ${problem}`);
    return null;
  }
}

/** Has the runtime start where it may do nothing, as workers will. */
async function problemOf(perl: string): Promise<string | null> {
  const [program = '', ...words] = wordsFor(perl, {
    cell: NOTHING,
    command: [process.execPath, '--eval', '0'],
  });
  try {
    await promisify(execFile)(program, words, { cwd: '/', env: {} });
    return null;
  } catch (error) {
    const { stderr = '' } = error as { stderr?: string };
    return stderr.trim() || String(error);
  }
}

function wordsFor(
  perl: string,
  { cell, command }: { readonly cell: Cell; readonly command: readonly string[] },
): readonly string[] {
  const families = [...(cell.hasInstances ? [AF_UNIX] : []), ...(cell.hasNetwork ? NETWORK_FAMILIES : [])];
  const rules = [
    ...[...MACHINE, ...codeFolders(), compileCacheDirectory(), ...cell.reads].map((path) => `read:${path}`),
    ...(cell.hasOwnRights ? ownRights() : []).map((path) => `read:${path}`),
    ...foldersAbove(cell).map((path) => `list:${path}`),
    ...cell.writes.map((path) => `write:${path}`),
    ...[...MACHINE_EDITS, ...cell.edits].map((path) => `edit:${path}`),
    ...PROGRAMS.map((path) => `run:${path}`),
    ...(families.length === 0 ? [] : [`families:${families.join(',')}`]),
  ];
  return [perl, SCRIPT, ...rules, '--', ...command];
}

/** Our code and the packages, which may also lie beside us or above. Not the whole installation: a store may be inside. */
function codeFolders(): readonly string[] {
  const folders = ['src', 'package.json'].map((name) => join(INSTALLATION, name));
  for (let at = dirname(join(INSTALLATION, 'src')); ; at = dirname(at)) {
    folders.push(join(at, 'node_modules'));
    if (dirname(at) === at) return folders;
  }
}

function ownRights(): readonly string[] {
  const home = homeFolder();
  const atHome = home === null ? [] : OWN_RIGHTS_AT_HOME.map((name) => join(home, name));
  return [...atHome, ...OWN_RIGHTS, ...nodeCredentialFiles()];
}

function homeFolder(): string | null {
  try {
    return userInfo().homedir;
  } catch {
    return null; // A user without a name has none.
  }
}
