/**
 * One Postgres process tree per virtual cluster: what the rest of Atoll may know and ask of it.
 */
import type { IncarnationId, Lsn, Timestamp, VirtualClusterId, VirtualClusterName } from '../base/index.ts';
import type { SourceTls } from '../pg/index.ts';
import type { ClusterKey } from '../keys/index.ts';
import type { Login } from './login.ts';

/** What a virtual cluster's folder says of itself; rebuilt catalogs start from it. Written atomically, checksummed. */
export interface InstanceIdentity {
  readonly virtualClusterId: VirtualClusterId;
  readonly virtualClusterName: VirtualClusterName;
  /** The current life of the data directory; the folder of that name is what is served. */
  readonly incarnation: IncarnationId;
  readonly parentIncarnation: IncarnationId | null;
  /** Where this incarnation left its parent. */
  readonly forkLsn: Lsn | null;
  readonly systemIdentifier: bigint;
  readonly engineMajor: number;
  /** OS user the instance runs under; null when the daemon is no root and all run as its user. */
  readonly uid: number | null;
}

/** Tunables of one instance; the rest of its configuration is fixed. */
export interface InstanceSettings {
  readonly maxConnections: number;
  readonly sharedBuffersBytes: number;
  /** What each process may have beyond the shared memory, at least `SESSION_MEMORY_BYTES_MIN`; 0 for no limit. Linux only. */
  readonly sessionMemoryBytes: number;
  /** How far its processes stand back for others when the processor is busy, 0 to 19 as for `nice`. */
  readonly niceness: number;
  /** Its share of the processor against others', all its processes together: 1 to 10000. */
  readonly cpuWeight: number;
  /** What all its processes and their files in memory may take together, at least `MEMORY_BYTES_MIN`; 0 for no limit. */
  readonly memoryBytes: number;
  readonly extra: Readonly<Record<string, string>>;
}

/** How a restored data directory is to be recovered on its first start. */
export interface RecoveryTarget {
  /** Recovery ends before the first record at or after this position. */
  readonly lsn: Lsn;
  readonly timelineId: number;
  /**
   * When the log in the directory holds no such record: the end of its last one. Recovery then goes to the end of the log, and must have
   * got there.
   */
  readonly logEndLsn?: Lsn | null;
}

/** What recovery came to. */
export interface ProvedIncarnation {
  /** Timeline of Postgres that the new incarnation writes. */
  readonly timelineId: number;
  /** End of the last record that was replayed: where the new incarnation leaves its parent. */
  readonly forkLsn: Lsn;
}

/** What a follower follows, and how far that has come. */
export interface Following {
  /** The life that it is a copy of. It counts only while this is the current one. */
  readonly incarnation: IncarnationId;
  /**
   * `cut_off`: it receives nothing any more, and replays what it has. `promoting`: it becomes an instance of its own, or has become one
   * already.
   */
  readonly phase: 'following' | 'cut_off' | 'promoting';
  /** The timeline of Postgres that the source writes. */
  readonly timelineId: number;
  /** At the source. */
  readonly slot: string;
  readonly source: {
    readonly host: string;
    readonly port: number;
    readonly user: string;
    readonly password: string | null;
    /** Start-up options that lead to the instance that is meant. */
    readonly options: string;
    readonly tls: SourceTls;
  };
  /** Replay pauses before the first commit that is later. */
  readonly stopAt: Timestamp | null;
}

export type InstanceState =
  | { readonly kind: 'stopped' }
  | { readonly kind: 'starting' }
  | { readonly kind: 'running'; readonly pid: number }
  | { readonly kind: 'stopping' }
  /** It ended by itself; a new start is tried at `retryAtMs` (monotonic). */
  | { readonly kind: 'backing_off'; readonly retryAtMs: number; readonly lastError: string };

/** A row of an internal query: column name to text value. */
export type Row = Readonly<Record<string, string | null>>;

/** A short internal session. Values travel as parameters, never in the text. */
export interface InternalClient {
  query(sql: string, parameters?: readonly (string | null)[]): Promise<readonly Row[]>;
}

export type StopMode = 'orderly' | 'immediate';

/** What is known of a role that makes a copy: whether the copy is there. */
export type CopyMark =
  | { readonly isDone: false }
  | { readonly isDone: true; readonly rows: bigint; readonly indexEntries: bigint; readonly bytes: bigint };

/** Roles for logical copies: no superusers, one for each copy. A name is used once. */
export interface CopyRoles {
  /** May log in to these databases and read all that is in them. */
  makeReader(options: { role: string; databases: readonly string[]; signal: AbortSignal }): Promise<void>;
  /** May do in the database what the role may on whose behalf it works, and make things in all of its schemas. */
  makeMaker(options: {
    role: string;
    onBehalfOf: string;
    database: string;
    signal: AbortSignal;
  }): Promise<void>;
  /** Null when there is no such role. */
  mark(options: { role: string; signal: AbortSignal }): Promise<CopyMark | null>;
  /** Everything in the database that is the role's, the database too if it is, becomes the owner's. */
  giveAll(options: { role: string; database: string; owner: string; signal: AbortSignal }): Promise<void>;
  /** Takes the role away, with all that it was granted and whatever it still owns. Harmless when gone. */
  remove(options: { role: string; signal: AbortSignal }): Promise<void>;
}

export interface Instance {
  readonly copyRoles: CopyRoles;
  readonly identity: InstanceIdentity;
  /** Null for an instance of its own. */
  readonly following: Following | null;
  readonly state: InstanceState;
  /** Rises with every start; a session that remembers an older number has lost its backend. */
  readonly generation: number;
  readonly dataDirectory: string;
  /** Folder of the private socket, and the socket file in it. */
  readonly socketDirectory: string;
  readonly socketPath: string;
  /** As whom the superuser logs in there, and where: in data of a plain server another than in ours. Known while it runs. */
  readonly login: Login;
  /** Starts and waits until connections are accepted. Harmless when running. @throws AppError `instance_failed` */
  start(options: { signal: AbortSignal }): Promise<void>;
  /** smart, then fast, then immediate, each with its limit. Harmless when stopped. */
  stop(options: { mode: StopMode; signal: AbortSignal }): Promise<void>;
  /** Waits until it serves, for at most `timeoutMs`. @throws AppError `cannot_connect_now` */
  whenServing(options: { timeoutMs: number; signal: AbortSignal }): Promise<void>;
  /**
   * Lends a session of the bootstrap superuser in database `system`, the only place it ever works, with search_path
   * `pg_catalog, pg_temp`. Sessions are kept for a short idle time and are few.
   */
  withSystemClient<T>(
    use: (client: InternalClient) => Promise<T>,
    options: { signal: AbortSignal },
  ): Promise<T>;
  /** Lends a session of `atoll_reader`, who is no superuser, in any database of the tenant. Closed afterwards. */
  withReaderClient<T>(
    options: { database: string; signal: AbortSignal },
    use: (client: InternalClient) => Promise<T>,
  ): Promise<T>;
  /**
   * Lends a session of a tenant's role in any database that it may enter, with that role's own rights and nothing more. Closed afterwards.
   * @throws AppError `insufficient_privilege`, `object_not_found`
   */
  withRoleClient<T>(
    options: { database: string; role: string; signal: AbortSignal },
    use: (client: InternalClient) => Promise<T>,
  ): Promise<T>;
  /**
   * Makes the schema `pg_atoll` in a database that was not born with it: one that comes from elsewhere. Harmless where it is. The bootstrap
   * superuser does it, and does nothing else there. @throws AppError `object_not_found`
   */
  installPrivilegeStore(options: { database: string; signal: AbortSignal }): Promise<void>;
  /**
   * The same, with all else that keeps tenants from the host, in every database and template that has not got it as this release makes it;
   * before clients are let in. Gives what was done, a sentence each. One query where nothing is missing. May run twice.
   * @throws AppError `connection_failure`; DatabaseError when it cannot be made: then nobody should be let in
   */
  guardDatabases(options: { signal: AbortSignal }): Promise<readonly string[]>;
  /** It can only be read, whoever asks: `setReadOnly`. */
  readonly isReadOnly: boolean;
  /** Durable when it returns, and kept through restarts of the daemon; it counts from the next start on. Unlogged tables are emptied. */
  setReadOnly(isReadOnly: boolean): Promise<void>;
  /**
   * Of a follower that runs: its source has been given more places of some kind (connections, workers, locks) than it was started with. Replay
   * stands still until it is started anew, which gives it as many.
   */
  lacksPlaces(options: { signal: AbortSignal }): Promise<boolean>;
  /** Changes what applies from the next start on. */
  configure(settings: InstanceSettings): void;
}

/** A copy of a virtual cluster at some point, recovered, that nobody else can reach. */
export interface ScratchCopy {
  /** All that can be entered, templates too. */
  readonly databases: readonly string[];
  /**
   * Lends a session of a role that is no superuser and may call the functions of amcheck and pg_visibility, which lie in schema
   * `pg_atoll_check`. Once for each database.
   */
  withChecker<T>(database: string, use: (client: InternalClient) => Promise<T>): Promise<T>;
  /** Folder of the private socket, and a role that is no superuser and may read every row of every database. */
  readonly socketDirectory: string;
  readonly reader: string;
  /** The bootstrap superuser in database `system`, for as long as the copy serves. */
  readonly system: InternalClient;
  /** Lends a session of the reader that resolves names to Postgres's own objects alone. */
  withReader<T>(database: string, use: (client: InternalClient) => Promise<T>): Promise<T>;
  /**
   * From now on every relation of the database that is not among these (by oid) fails to be read, rather than to yield whatever its
   * files hold; definitions stay as they are. Catalogs stay readable, without large objects unless they are among these.
   */
  fence(database: string, options: { readonly readable: readonly string[] }): Promise<void>;
  /** Rolls back what was prepared and never decided: its locks would keep readers waiting for ever. */
  rollBackPrepared(database: string): Promise<void>;
}

/** All instances of a store: one per virtual cluster. */
export interface InstanceHost {
  readonly storeDirectory: string;
  list(): readonly Instance[];
  get(virtualClusterId: VirtualClusterId): Instance | undefined;
  /** Makes folder, identity and data directory from the template; durable when it returns; not started. */
  create(options: {
    virtualClusterId: VirtualClusterId;
    name: VirtualClusterName;
    settings: InstanceSettings;
    signal: AbortSignal;
  }): Promise<Instance>;
  /** Records a new name in the identity file. */
  rename(options: { virtualClusterId: VirtualClusterId; name: VirtualClusterName }): Promise<void>;
  /** Takes the folder out of service by an atomic rename, then deletes it. Harmless when gone. */
  remove(options: { virtualClusterId: VirtualClusterId; signal: AbortSignal }): Promise<void>;
  /**
   * Begins a new incarnation beside the current one: an empty data directory, owned by the instance's OS user, for
   * `materialize` to fill. Left-overs of an earlier attempt are removed.
   */
  beginIncarnation(options: {
    virtualClusterId: VirtualClusterId;
    incarnation: IncarnationId;
  }): Promise<{ readonly dataDirectory: string; readonly uid: number | null }>;
  /**
   * Sets the data directory of a stopped virtual cluster apart, to be made into the new incarnation in its own place; from now on nothing
   * of it can be started. Asked again, the same answer. Null when the directory is not there any more: it was taken further.
   */
  beginRewind(options: {
    virtualClusterId: VirtualClusterId;
    incarnation: IncarnationId;
  }): Promise<{ readonly dataDirectory: string; readonly uid: number | null } | null>;
  /** What was rewound is the new incarnation, begun: it may be proved. */
  endRewind(options: { virtualClusterId: VirtualClusterId; incarnation: IncarnationId }): Promise<void>;
  /**
   * Puts a data directory that was set apart back in its place, unless anything of it was changed or it is not there: then false.
   */
  abandonRewind(options: {
    virtualClusterId: VirtualClusterId;
    incarnation: IncarnationId;
  }): Promise<boolean>;
  /**
   * Takes the log away from what was rewound that the new source has not written: everything from the fork's segment on; nothing when there
   * is no fork. Put there is the history of the source's timeline, without which Postgres does not go there, and by which it leaves the
   * former one where the source did. Before `commitFollower`.
   */
  fence(options: {
    virtualClusterId: VirtualClusterId;
    incarnation: IncarnationId;
    forkLsn: Lsn | null;
    history: { readonly timelineId: number; readonly text: string };
  }): Promise<void>;
  /**
   * Makes an incarnation that was begun and filled the current one, as a follower; not started. Where `forkLsn` is, it left its parent.
   * Asked again, the same answer.
   */
  commitFollower(options: {
    virtualClusterId: VirtualClusterId;
    following: Following;
    parentIncarnation: IncarnationId | null;
    forkLsn: Lsn | null;
    signal: AbortSignal;
  }): Promise<void>;
  /**
   * Changes how a follower follows: its phase, its source, where it stops. A server that runs takes up another source or phase at once, and
   * another place to stop at its next start. @throws AppError `object_state` when it is no follower
   */
  setFollowing(options: { virtualClusterId: VirtualClusterId; following: Following }): Promise<void>;
  /**
   * Makes a follower an instance of its own, whose life begins where replay has come to; left stopped. `prepare` works in its `system`
   * database. Asked again, the same answer.
   */
  promote(options: {
    virtualClusterId: VirtualClusterId;
    incarnation: IncarnationId;
    prepare: (client: InternalClient) => Promise<void>;
    /** Told what was changed in the data of a plain server to make it that of a virtual cluster, a sentence each. */
    onAdopted?: (findings: readonly string[]) => void;
    /** Told the names of the subscriptions that were disabled. */
    onDisabledSubscriptions: (names: readonly string[]) => void;
    signal: AbortSignal;
  }): Promise<ProvedIncarnation>;
  /** Whether the data directory of the current incarnation is there. */
  isWhole(virtualClusterId: VirtualClusterId): Promise<boolean>;
  /**
   * Starts the new incarnation, once, on a socket of its own while the current one still serves, recovers to the target, lets
   * `prepare` work in its `system` database, and stops it cleanly: it is then ready to take over.
   * With `isNewSystem` it gets a system identifier of its own, as a copy that goes its own way should.
   */
  proveIncarnation(options: {
    virtualClusterId: VirtualClusterId;
    incarnation: IncarnationId;
    recovery: RecoveryTarget;
    prepare: (client: InternalClient) => Promise<void>;
    isNewSystem?: boolean;
    /** Told the names of the subscriptions that were disabled. */
    onDisabledSubscriptions?: (names: readonly string[]) => void;
    /**
     * Given for data that comes from elsewhere: native functions that no allowed extension brings, login event triggers, and settings that load
     * libraries are taken away before `prepare`; told what was found, a sentence each.
     */
    onForeignCode?: (findings: readonly string[]) => void;
    /**
     * The bootstrap superuser that the data had was not ours: nothing that he made may run with the rights of ours. What it is given to instead
     * is told to `onForeignCode`.
     */
    isOfOtherCluster?: boolean;
    /** Given for data out of a backup: tables with `exclude_data_from_backup` are emptied; told which could not be, a sentence each. */
    onNotEmptied?: (findings: readonly string[]) => void;
    /** Only definitions are wanted: no table of a tenant's keeps a row; it fails when one would. */
    isSchemaOnly?: boolean;
    signal: AbortSignal;
  }): Promise<ProvedIncarnation>;
  /**
   * Stops the current incarnation, makes the new one current (one atomic rename), starts it, deletes the old one when the new one has
   * served. With `start: 'later'` it is left stopped, as a virtual cluster out of service is.
   */
  commitIncarnation(options: {
    virtualClusterId: VirtualClusterId;
    incarnation: IncarnationId;
    forkLsn: Lsn | null;
    /** Where `forkLsn` lies; the incarnation that is replaced when left out. */
    parentIncarnation?: IncarnationId | null;
    start?: 'now' | 'later';
    signal: AbortSignal;
  }): Promise<void>;
  /**
   * Where the log of a virtual cluster ends that was stopped in order: its last record begins here.
   * @throws AppError `object_state` when it runs, or was not stopped in order
   */
  lastRecordLsn(virtualClusterId: VirtualClusterId): Promise<Lsn>;
  /**
   * Makes a copy beside the current incarnation, recovers it to what `fill` says, lets it be looked at, and removes it, whatever happens: a
   * crash leaves nothing that the next open does not remove. It is part of no lineage. @throws AppError `instance_failed`
   */
  withScratchCopy<T>(options: {
    virtualClusterId: VirtualClusterId;
    fill: (target: {
      readonly dataDirectory: string;
      readonly uid: number | null;
    }) => Promise<RecoveryTarget>;
    whileServing: (copy: ScratchCopy) => Promise<void>;
    /** The copy was stopped in order; its directory is still there. */
    whenStopped: (dataDirectory: string) => Promise<T>;
    signal: AbortSignal;
  }): Promise<T>;
  /**
   * The same for a copy that is only asked while it serves: it is not written out, neither before nor after. `fill` need not make anything
   * durable. @throws AppError `instance_failed`; what `use` throws, as it is
   */
  withServingCopy<T>(options: {
    virtualClusterId: VirtualClusterId;
    fill: (target: {
      readonly dataDirectory: string;
      readonly uid: number | null;
    }) => Promise<RecoveryTarget>;
    use: (copy: ScratchCopy) => Promise<T>;
    signal: AbortSignal;
  }): Promise<T>;
  /** Removes an incarnation that was begun and not committed. Harmless when gone. */
  abandonIncarnation(options: {
    virtualClusterId: VirtualClusterId;
    incarnation: IncarnationId;
  }): Promise<void>;
}

/** The host of this machine's store, which is ours alone until it is closed or the process ends. */
export interface OpenInstanceHost extends InstanceHost {
  /** Random, made with the store. */
  readonly clusterId: string;
  /** Signs what this physical cluster writes to collections. */
  readonly clusterKey: ClusterKey;
  /** True when this open made the store. */
  readonly isNewStore: boolean;
  /** Version of PostgreSQL that instances start with, `18.4`. */
  readonly engineVersion: string;
  /** Lets go of everything and of the lock. Instances keep running; a later open adopts them. Harmless when closed. */
  close(): Promise<void>;
}
