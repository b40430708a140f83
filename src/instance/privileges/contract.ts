/** What the daemon may do to instances and their files: by itself, or by the hand of a helper that has root's rights. */
import { RESTORE_PROGRESS_FILE, type VirtualClusterId } from '../../base/index.ts';
import type { Owner } from '../durable-files.ts';
import type { Postmaster, PostmasterCommand } from '../postmaster.ts';

/** Files of a data directory that the node, and not its server, makes and removes. */
export const NODE_FILES = [
  'postmaster.pid',
  'recovery.signal',
  'standby.signal',
  'postgresql.conf',
  'postgresql.auto.conf',
  'pg_hba.conf',
  'pg_ident.conf',
  RESTORE_PROGRESS_FILE,
] as const;
export type NodeFile = (typeof NODE_FILES)[number];

/** Signs that decide what the next start of a server does. */
export type StartSign = Extract<NodeFile, 'recovery.signal' | 'standby.signal'>;

/**
 * A data directory is *ours* while it is made, changed or deleted, and its server's from the start of a server on. Where both have the same
 * user, or the daemon is root, all of this is what any process does with its files.
 */
export interface Privileges {
  /** Whether a helper acts for a daemon that has no rights over instances. */
  readonly isSeparate: boolean;
  /** OS users whom an instance lets in, by name. @throws AppError `store_invalid` when the daemon's has none */
  peers(): readonly string[];
  /** The user for the instance of a new virtual cluster; null when it is the daemon's. */
  uidOf(id: VirtualClusterId): number | null;
  /** Whom we make an instance's files over to when we make them; null when that is not for us to do. */
  ownerOf(uid: number | null): Owner | null;

  /** Pids of all that works in the folder: a server and its sessions do in their data directory. */
  processesIn(directory: string): Promise<readonly number[]>;
  worksIn(pid: number, directory: string): Promise<boolean>;
  /** Harmless when there is no such process any more. */
  signal(
    process: { readonly pid: number; readonly startToken?: string },
    signal: NodeJS.Signals,
  ): Promise<void>;

  /** Makes a data directory its server's, if it is ours, and starts the server. @throws AppError `instance_failed` */
  launch(command: PostmasterCommand): Promise<Postmaster>;
  /** Makes a data directory ours. No server runs in it. May be asked any number of times, also after a crash. */
  take(dataDirectory: string): Promise<void>;
  /** Durable when it returns; harmless for what is not there. */
  removeFiles(dataDirectory: string, names: readonly NodeFile[]): Promise<void>;
  /** Durable when it returns. */
  sign(dataDirectory: string, name: StartSign, options: { readonly owner: Owner | null }): Promise<void>;
  /** Lets a virtual cluster's server read its configuration, all of it that was written so far. */
  openConfiguration(clusterDirectory: string): Promise<void>;
  /** Lets a server make its socket in a folder, and us alone reach it. */
  openSockets(directory: string): Promise<void>;
}
