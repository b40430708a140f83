/**
 * What the front ends (SQL front door, HTTP, command line) may ask of Atoll. They translate; this layer decides.
 * Everything that crosses is plain data, so that a front door in another process can ask over a channel.
 */
import type { Lsn, VirtualClusterId, VirtualClusterName } from '../base/index.ts';
import type { ScheduledRun } from '../catalog/index.ts';
import type { Statement } from '../sql/index.ts';
import type { ThrottleLimits } from './privileges/login-throttle.ts';

/** Types a result of ours can carry, by their Postgres names. */
export type ColumnType =
  | 'int8'
  | 'text'
  | 'bool'
  | 'float8'
  | 'numeric'
  | 'timestamptz'
  | 'interval'
  | 'bytea'
  | 'jsonb';

export interface Column {
  readonly name: string;
  readonly type: ColumnType;
}

/** A value in Postgres's text form (`t`/`f` for bool, `2024-04-18 10:07:45.000001+00` for timestamptz), or null. */
export type Cell = string | null;

export interface Notice {
  readonly severity: 'NOTICE' | 'WARNING';
  readonly sqlstate: string;
  readonly message: string;
  readonly hint?: string;
}

export type StatementResult =
  | {
      readonly kind: 'rows';
      readonly columns: readonly Column[];
      readonly rows: readonly (readonly Cell[])[];
      /** CommandComplete tag, e.g. `SHOW 2`. */
      readonly tag: string;
    }
  | { readonly kind: 'done'; readonly tag: string }
  /**
   * Not done yet: one statement of Postgres's that the front door runs in the session's own backend, so in the session's transaction and
   * with the rights of its role. The client hears the tag, or the error Postgres gave.
   */
  | { readonly kind: 'in_session'; readonly sql: string; readonly tag: string };

/** Who asks, and from where. Made by the front door when a client has logged in. */
export interface SessionIdentity {
  readonly virtualClusterId: VirtualClusterId;
  readonly virtualClusterName: VirtualClusterName;
  /** The role that logged in. */
  readonly user: string;
  readonly database: string;
  readonly applicationName: string;
}

/** As whom somebody of the system VC is served in another virtual cluster. */
export interface ServedAs {
  readonly role: string;
  /** Where the session must be; undefined: where the client asked to be. */
  readonly database: string | undefined;
  /** Start-up settings of the session. */
  readonly settings: Readonly<Record<string, string>>;
}

/** The session's transaction, as the backend last reported it in ReadyForQuery. */
export type TransactionStatus = 'idle' | 'in_transaction' | 'failed';

export interface ExecuteContext {
  readonly session: SessionIdentity;
  readonly transaction: TransactionStatus;
  /** Number of the open transaction, for statements that `joinsTransaction`: what they begin is begun when it has committed. */
  readonly transactionId?: string;
  /** The statement's own text, for job descriptions. */
  readonly text: string;
  /** Values of `$1`... in text form. */
  readonly parameters: readonly Cell[];
  readonly onNotice: (notice: Notice) => void;
  /** Aborts when the client cancels or goes away; a job that was started keeps running. */
  readonly signal: AbortSignal;
  /** Set when a schedule asks instead of a client. */
  readonly run?: ScheduledRun;
}

/** Where a connection is to be taken. */
export interface Route {
  readonly virtualClusterId: VirtualClusterId;
  readonly virtualClusterName: VirtualClusterName;
  /** Path of the instance's Unix socket (the file, not the folder). */
  readonly socketPath: string;
  /** Changes whenever the instance behind the name does: a session that lost its backend asks again. */
  readonly instanceGeneration: number;
  /** What the operator allows those who log in; left out where the front door's own limits stand. */
  readonly admission?: AdmissionLimits;
}

/** Limits for clients that have not logged in, as the settings of the system VC say, and in one case those of the VC. */
export interface AdmissionLimits extends ThrottleLimits {
  /** Connections of all kinds at one time, in one process. */
  readonly connectionsMax: number;
  /** Of those, connections of clients that have not logged in yet. */
  readonly pendingMax: number;
  /** What a client may take for each thing it has to say while it logs in. */
  readonly loginTimeoutMs: number;
}

/** What the front door needs to check a password. Null verifier: the role has no password. */
export interface Credential {
  readonly canLogin: boolean;
  /** `SCRAM-SHA-256$...` as in pg_authid, or null. */
  readonly verifier: string | null;
  /** The password is no longer valid. */
  readonly isExpired: boolean;
}

/** The whole of what a SQL front door may ask. */
export interface FrontDoorService {
  /**
   * Finds the virtual cluster a client named, or the default target. Wakes or waits for its instance for a bounded time.
   * @throws AppError `service_unavailable` unknown name or service `none`; `cannot_connect_now` still starting
   */
  route(options: {
    name: string | undefined;
    /** It wants to follow it, over a physical replication connection. */
    isStream?: boolean;
    signal: AbortSignal;
  }): Promise<Route>;
  /** Undefined when there is no such role; the front door then runs a mock exchange so that names cannot be probed. */
  credential(options: {
    virtualClusterId: VirtualClusterId;
    user: string;
    signal: AbortSignal;
  }): Promise<Credential | undefined>;
  /** Whether `user` may enter this virtual cluster at all (the system VC admits only its admins and grantees). */
  authorize(options: {
    virtualClusterId: VirtualClusterId;
    user: string;
    /** For a session that streams log or changes, of which a server has few. */
    isReplication?: boolean;
    signal: AbortSignal;
  }): Promise<void>;
  /**
   * Whether `user`, who has proved to be that user of the system VC (`-cauthority=system`), may enter this virtual cluster by the
   * authority of the system VC, and as whom. What it allows is written to the log. @throws AppError `authorization_invalid`
   */
  authorizeBySystem?(options: {
    virtualClusterId: VirtualClusterId;
    user: string;
    /** To follow it over a physical replication connection: then it is REPLICATION that counts, also in the system VC itself. */
    isStream: boolean;
    signal: AbortSignal;
  }): Promise<ServedAs>;
  /**
   * Refuses, among Postgres's own statements, those that a virtual cluster does not admit: object creation in the system VC while
   * `sql.restrict_system_interface.enabled` is on. And audits what changes roles and their rights. The front door calls it with the text
   * of every Query and Parse of a session in the system VC before relaying it, elsewhere with those that change privileges.
   * Synchronous and cheap.
   * @throws AppError `insufficient_privilege`
   */
  screen?(options: { session: SessionIdentity; text: string }): void;
  /** Columns that `execute` will return, or undefined for none; for Describe. @throws AppError */
  describe(statement: Statement, session: SessionIdentity): readonly Column[] | undefined;
  /** Carries out one of our statements. @throws AppError */
  execute(statement: Statement, context: ExecuteContext): Promise<StatementResult>;
}

export type { Lsn };
