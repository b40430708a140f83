/** What the helper does for the daemon, as root: nothing but the verbs of requests.ts, in the store that it was started for. */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { openSync, readlinkSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { AppError, assertNever, errnoOf } from '../../base/index.ts';
import { CERTIFICATE_FILES, type CertificateFile } from '../../keys/index.ts';
import { ControlGroups } from '../control-groups.ts';
import { processesIn, signalProcess, startTokenOf, worksIn } from '../os-process.ts';
import { spawnLoggingTo } from '../postmaster.ts';
import { CONFIGURATION_NAME, storeLayout } from '../store-layout.ts';
import { isUidOfInstance, ownerOf, UID_BASE } from '../users.ts';
import { Folder } from './folder.ts';
import { give, openConfiguration, openSockets, type Parties, take } from './ownership.ts';
import type { HelperSpec, Place, Request, RequestOf, RunFile } from './requests.ts';

/** More than any certificate. */
const CERTIFICATE_BYTES_MAX = 1024 * 1024;

export interface HelperEvents {
  /** A server that was launched has ended; never before the answer to its launch. */
  ended(pid: number, how: string): void;
}

export class Helper {
  readonly #spec: HelperSpec;
  readonly #root: Folder;
  readonly #groups: ControlGroups | null;
  readonly #events: HelperEvents;
  /** Servers that this process has launched and that run. */
  readonly #children = new Set<number>();

  constructor(spec: HelperSpec, events: HelperEvents) {
    this.#spec = spec;
    this.#events = events;
    this.#root = Folder.open(spec.root);
    this.#groups = spec.controlGroups === null ? null : new ControlGroups(spec.controlGroups);
  }

  async serve(request: Request): Promise<unknown> {
    switch (request.verb) {
      case 'launch':
        return this.#launch(request);
      case 'signal':
        return this.#signal(request);
      case 'processes':
        return processesIn(this.#pathOf(request.place));
      case 'works_in':
        return worksIn(request.pid, this.#pathOf(request.place));
      case 'take':
        return this.#take(request.place);
      case 'remove_files':
        return this.#removeFiles(request);
      case 'sign':
        return this.#sign(request);
      case 'open_configuration': {
        using cluster = this.#cluster(request.cluster);
        return openConfiguration(cluster, this.#partiesOf(request.cluster));
      }
      case 'open_sockets': {
        using run = this.#root.folder('run');
        using sockets = run.folder(request.name);
        return openSockets(sockets, this.#partiesOf(request.name));
      }
      case 'read_certificates':
        return this.#readCertificates();
      case 'write_run_file':
        return this.#writeRunFile(request.file, request.content);
      case 'remove_pid_file':
        return this.#removePidFile();
      default:
        return assertNever(request);
    }
  }

  async #launch({ place, engine, log, overrides, limits }: RequestOf<'launch'>) {
    const { clusters, engines } = storeLayout(this.#spec.root);
    const parties = this.#partiesOf(place.cluster);
    {
      using directory = this.#dataDirectory(place);
      await give(directory, parties);
    }
    const postgres = engine === null ? this.#ownEngine() : join(engines, engine, 'bin', 'postgres');
    const logFd = this.#openLog(log, place);
    try {
      const command = {
        postgres,
        dataDirectory: this.#pathOf(place),
        configuration: join(clusters, place.cluster, CONFIGURATION_NAME),
        overrides,
        user: parties.instance,
        ...(limits === null
          ? {}
          : {
              limits: {
                ...limits,
                addressSpaceBytes: limits.addressSpaceBytes ?? undefined,
                memoryBytes: limits.memoryBytes ?? undefined,
                virtualClusterId: idOf(place.cluster),
              },
            }),
      };
      const server = await spawnLoggingTo(logFd, command, this.#groups);
      this.#children.add(server.pid);
      void server.ended({ signal: new AbortController().signal }).then((how) => {
        this.#children.delete(server.pid);
        setImmediate(() => this.#events.ended(server.pid, how));
      });
      return { pid: server.pid, startToken: server.startToken, unkept: [...server.unkept] };
    } finally {
      closeSync(logFd);
    }
  }

  #ownEngine(): string {
    const { ownEngine } = this.#spec;
    if (ownEngine === null) throw new AppError('engine_invalid', 'no engine was named by the operator');
    return join(ownEngine, 'bin', 'postgres');
  }

  /** The daemon reads it and keeps it small. */
  #openLog(name: string, { cluster }: Place): number {
    if (idOf(name.replace(/^\w+-/, '')) !== idOf(cluster))
      throw new AppError('internal', `${name} is of another`);
    const { daemon } = this.#spec;
    using logs = this.#root.folder('logs');
    const { O_WRONLY, O_APPEND } = constants;
    const present = logs.file(name, O_WRONLY | O_APPEND);
    if (present !== null) {
      if (fstatSync(present).uid === daemon.uid) return present;
      closeSync(present);
      throw new AppError('io', `the log ${name} belongs to somebody else`);
    }
    const fd = logs.newFile(name, O_APPEND);
    fchownSync(fd, daemon.uid, daemon.gid);
    return fd;
  }

  /** Only what runs as an instance's user and works in this store, or is a server of ours on its way there. */
  async #signal({ pid, startToken, signal }: RequestOf<'signal'>): Promise<void> {
    const uid = uidOfProcess(pid);
    if (uid === null || (startToken !== null && (await startTokenOf(pid)) !== startToken)) return;
    if (!isUidOfInstance(uid) || !(this.#children.has(pid) || this.#worksInStore(pid))) {
      throw new AppError('insufficient_privilege', `process ${pid} is no instance of this store`);
    }
    signalProcess(pid, signal);
  }

  #worksInStore(pid: number): boolean {
    const directory = workingDirectory(pid);
    // One that has ended meanwhile is nobody's.
    return directory === null || directory.startsWith(`${storeLayout(this.#spec.root).clusters}/`);
  }

  async #take(place: Place): Promise<void> {
    using directory = this.#dataDirectoryIfAny(place);
    if (directory !== null) await take(directory, this.#partiesOf(place.cluster));
  }

  #removeFiles({ place, names }: RequestOf<'remove_files'>): void {
    using directory = this.#dataDirectory(place);
    const removed = names.filter((name) => directory.remove(name));
    if (removed.length > 0) directory.sync();
  }

  #sign({ place, name }: RequestOf<'sign'>): void {
    using directory = this.#dataDirectory(place);
    directory.remove(name);
    const fd = directory.newFile(name);
    try {
      const { daemon, instance } = this.#partiesOf(place.cluster);
      // While the directory is the daemon's, all in it is; with it this becomes its server's.
      const { uid } = directory.status().uid === daemon.uid ? daemon : instance;
      fchownSync(fd, uid, daemon.gid);
      fchmodSync(fd, 0o640);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    directory.sync();
  }

  /** As they are: whoever asked understands them. They are read from the operator's folder alone. */
  #readCertificates(): Record<string, CertificateFile> {
    const { certificates } = this.#spec;
    if (certificates === null) throw new AppError('internal', 'there is no folder of certificates');
    return Object.fromEntries(
      CERTIFICATE_FILES.map((name): [string, CertificateFile] => {
        const path = join(certificates, name);
        try {
          const { mode, uid, size } = statSync(path);
          if (size > CERTIFICATE_BYTES_MAX) return [name, { kind: 'unreadable', code: 'EFBIG' }];
          return [name, { kind: 'file', text: readFileSync(path, 'utf8'), mode, uid }];
        } catch (error) {
          const code = errnoOf(error);
          if (code === undefined) throw error;
          return [name, { kind: 'unreadable', code }];
        }
      }),
    );
  }

  /** Where the operator named one; never through a link that somebody has put beside it. */
  #writeRunFile(file: RunFile, content: string): void {
    const path = this.#spec.runFiles[file];
    if (path === null) return;
    const temporary = `${path}.tmp`;
    rmSync(temporary, { force: true });
    const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
    const fd = openSync(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o644);
    try {
      writeSync(fd, content);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  }

  #removePidFile(): void {
    const { pid } = this.#spec.runFiles;
    if (pid === null) return;
    try {
      if (readFileSync(pid, 'utf8').trim() === String(process.ppid)) rmSync(pid);
    } catch (error) {
      if (errnoOf(error) === undefined) throw error; // Gone or unreadable: nothing of ours is left behind.
    }
  }

  #cluster(name: string): Folder {
    using clusters = this.#root.folder('vc');
    return clusters.folder(name);
  }

  #dataDirectory({ cluster, directory }: Place): Folder {
    using folder = this.#cluster(cluster);
    return folder.folder(directory);
  }

  #dataDirectoryIfAny(place: Place): Folder | null {
    try {
      return this.#dataDirectory(place);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return null;
      throw error;
    }
  }

  #pathOf({ cluster, directory }: Place): string {
    return join(storeLayout(this.#spec.root).clusters, cluster, directory);
  }

  #partiesOf(name: string): Parties {
    return { daemon: this.#spec.daemon, instance: ownerOf(UID_BASE + idOf(name)) };
  }
}

/** `3`, `.removing-3-…`, `3p`, `3-….log`: all of virtual cluster 3. */
function idOf(name: string): number {
  const id = Number(/^(?:\.[a-z]+-)?(\d+)/.exec(name)?.[1]);
  if (!Number.isSafeInteger(id)) throw new AppError('internal', `${name} is of no virtual cluster`);
  return id;
}

/** Null when there is no such process any more. */
function workingDirectory(pid: number): string | null {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ESRCH') return null;
    throw error;
  }
}

/** The one user of a process; null when there is no such process, or it has several. */
function uidOfProcess(pid: number): number | null {
  try {
    const uids = /^Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'));
    const [uid, ...others] = (uids ?? []).slice(1).map(Number);
    return uid !== undefined && others.every((other) => other === uid) ? uid : null;
  } catch (error) {
    if (errnoOf(error) === undefined) throw error;
    return null;
  }
}
