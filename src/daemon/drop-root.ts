/**
 * A daemon that is started as root gives root's rights up before it reads anything of others: a helper keeps what it takes to run instances under
 * users of their own. docs/decisions/0028-privilege-separation.md
 */
import { execFileSync } from 'node:child_process';
import { constants } from 'node:fs';
import { access, chown, lchown, lstat, readdir, realpath, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { assert, type Clock, errnoOf, InputError, type Logger } from '../base/index.ts';
import {
  type ControlGroupsSpec,
  giveBulkGroup,
  HelperProcess,
  helperPrivileges,
  makeDirectories,
  orderStore,
  type Owner,
  type Privileges,
} from '../instance/index.ts';
import { boundCompileCache } from './compile-cache.ts';
import type { DaemonConfig } from './config.ts';

/** Whose rights a daemon has that was started as root, unless `--user` says otherwise: made for it, so that nobody else has them. */
const USER_DEFAULT = 'atoll';
/** `--user=root` keeps root's rights. */
const ROOT = 'root';
/** Names of files that logging makes. */
const LOG_NAME = /^(?:atoll(?:-audit)?(?:\.\d{4,})?\.log|report\..*\.json)$/;

/** What a daemon is left with. */
export interface DroppedRoot {
  readonly user: string;
  readonly helper: HelperProcess;
  readonly privileges: Privileges;
}

export interface DropOptions {
  readonly config: DaemonConfig;
  readonly controlGroups: ControlGroupsSpec | null;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

interface NamedUser extends Owner {
  readonly name: string;
}

/**
 * Null where there is nothing to give up, or nobody to become: the latter is logged.
 * @throws InputError `usage`; like `orderStore`
 */
export async function dropRoot(options: DropOptions): Promise<DroppedRoot | null> {
  const { config, logger } = options;
  if (process.getuid?.() !== 0 || process.platform !== 'linux') {
    requireSelf(config.user);
    return null;
  }
  const user = await chooseUser(options);
  if (user === null) return null;
  const root = await orderStore({ ...options, directory: config.store, daemon: user });
  await makeExternalDirectory(config, { user, logger });
  await makeLogDirectory(config, user);
  const helper = await HelperProcess.start(
    {
      root,
      daemon: { uid: user.uid, gid: user.gid },
      ownEngine: config.postgres18Directory ?? null,
      certificates: config.certificates?.directory ?? null,
      controlGroups: options.controlGroups,
      runFiles: { pid: config.runFiles.pid ?? null, listening_url: config.runFiles.listeningUrl ?? null },
    },
    { logger },
  );
  if (options.controlGroups !== null) giveBulkGroup(options.controlGroups, user);
  const compileCache = await makeCompileCache(user);
  become(user);
  // For processes that are started from now on; that of root is none of theirs.
  if (compileCache === null) delete process.env['NODE_COMPILE_CACHE'];
  else process.env['NODE_COMPILE_CACHE'] = compileCache;
  if (compileCache !== null) boundCompileCache(compileCache);
  return { user: user.name, helper, privileges: helperPrivileges(helper, { peers: [user.name, ROOT] }) };
}

/** For good: neither the process nor any of its threads or children gets root's rights back. */
function become({ name, uid, gid }: NamedUser): void {
  const { setgid, setuid } = process;
  assert(setgid !== undefined && setuid !== undefined && hasInitgroups(process), 'Linux has users');
  process.initgroups(name, gid);
  setgid.call(process, gid);
  setuid.call(process, uid);
  let isRootAgain = true;
  try {
    setuid.call(process, 0);
  } catch {
    isRootAgain = false;
  }
  assert(!isRootAgain && process.getuid?.() === uid && process.geteuid?.() === uid, 'root was not given up');
}

/** Beside that of root, whose processes never read what another user can write; null where none can be made. */
async function makeCompileCache({ name, uid, gid }: NamedUser): Promise<string | null> {
  const path = fileURLToPath(new URL(`../../node_modules/.cache/atoll-${name}`, import.meta.url));
  try {
    for (const folder of await makeDirectories(path)) if (folder === path) await chown(path, uid, gid);
    const status = await lstat(path);
    return status.isDirectory() && status.uid === uid ? path : null;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return null;
  }
}

/** Which the types of Node.js do not know. */
function hasInitgroups(of: object): of is { initgroups(user: string, extraGroup: number): void } {
  return 'initgroups' in of;
}

/** @throws InputError `usage` */
function requireSelf(name: string | undefined): void {
  if (name === undefined || lookUp(name)?.uid === process.getuid?.()) return;
  throw new InputError('usage', `--user=${name}: only root can become another user`, {
    hint: 'leave --user out, or start atoll as root',
  });
}

async function chooseUser({ config, logger }: DropOptions): Promise<NamedUser | null> {
  const { user: asked } = config;
  if (asked === ROOT) return null;
  if (asked !== undefined) {
    const user = lookUp(asked);
    if (user === null) throw new InputError('usage', `--user=${asked}: there is no such user`);
    const unreachable = await firstUnreachable(user);
    if (unreachable === null) return user;
    throw new InputError('usage', `user ${asked} cannot read ${unreachable}`, {
      hint: 'install atoll where other users may read it, for example /opt/atoll',
    });
  }
  const user = lookUp(USER_DEFAULT);
  if (user === null) {
    logger.info(
      `the daemon keeps root's rights: there is no user "${USER_DEFAULT}"; make one (useradd --system ${USER_DEFAULT})`,
    );
    return null;
  }
  const unreachable = await firstUnreachable(user);
  if (unreachable === null) return user;
  logger.warning(
    `the daemon keeps root's rights: user ${user.name} cannot read ${unreachable}; install atoll where other users may`,
  );
  return null;
}

/** Null when there is none, or when it is root by another name. */
function lookUp(name: string): NamedUser | null {
  const idOf = (flag: string) =>
    Number(execFileSync('id', [flag, '--', name], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
  try {
    const [uid, gid] = [idOf('-u'), idOf('-g')];
    return uid > 0 && gid > 0 ? { name, uid, gid } : null;
  } catch {
    return null;
  }
}

/** The daemon starts processes of its own programs: what of those the user could not read; null when all is well. */
async function firstUnreachable(user: Owner): Promise<string | null> {
  const here = fileURLToPath(import.meta.url);
  for (const path of [process.execPath, here, fileURLToPath(import.meta.resolve('zod'))]) {
    const unreachable = await unreachablePart(await realpath(path), user);
    if (unreachable !== null) return unreachable;
  }
  return null;
}

async function unreachablePart(path: string, user: Owner): Promise<string | null> {
  if (!(await may(path, user, constants.R_OK))) return path;
  for (let at = dirname(path); ; at = dirname(at)) {
    if (!(await may(at, user, constants.X_OK))) return at;
    if (at === dirname(at)) return null;
  }
}

/** By the file's mode alone. */
async function may(path: string, { uid, gid }: Owner, how: number): Promise<boolean> {
  const status = await stat(path);
  const shift = status.uid === uid ? 6 : status.gid === gid ? 3 : 0;
  return ((status.mode >> shift) & how) === how;
}

/** What is made or empty becomes the daemon's; what root has filled is for the operator to give. */
async function makeExternalDirectory(
  { externalDirectory }: DaemonConfig,
  { user, logger }: { user: NamedUser; logger: Logger },
): Promise<void> {
  if (externalDirectory.kind !== 'directory') return;
  const { path } = externalDirectory;
  const made = await makeDirectories(path, { mode: 0o700 }).catch((error: unknown) => {
    if (errnoOf(error) === undefined) throw error;
    return null; // Whoever opens it says why.
  });
  if (made === null) return;
  for (const folder of made) await chown(folder, user.uid, user.gid);
  if ((await stat(path)).uid === 0 && (await readdir(path)).length === 0)
    await chown(path, user.uid, user.gid);
  if (await may(path, user, constants.R_OK | constants.W_OK | constants.X_OK)) return;
  logger.warning(
    `user ${user.name}, whose rights the daemon has, may not write to the external directory ${path}: ` +
      `give it to that user (chown -R ${user.name} ${path})`,
  );
}

/** One that holds nothing but the log, and with it the log. */
async function makeLogDirectory({ log: { directory } }: DaemonConfig, user: NamedUser): Promise<void> {
  if (directory === undefined) return;
  try {
    for (const folder of await makeDirectories(directory, { mode: 0o750 })) {
      await chown(folder, user.uid, user.gid);
    }
    await access(directory);
    const names = await readdir(directory);
    for (const name of names.filter((each) => LOG_NAME.test(each))) {
      const path = join(directory, name);
      const status = await lstat(path);
      if (status.uid === 0 && status.isFile() && status.nlink === 1) await lchown(path, user.uid, user.gid);
    }
    const isOurs = names.every((name) => LOG_NAME.test(name));
    if (isOurs && (await stat(directory)).uid === 0) await chown(directory, user.uid, user.gid);
  } catch (error) {
    if (errnoOf(error) === undefined) throw error; // Whoever opens the log says why it cannot be written.
  }
}
