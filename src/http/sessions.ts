/**
 * Who is logged in at the HTTP port. Kept in memory alone: a restart of the node ends all sessions, and none is in a backup.
 * docs/decisions/0026-web-sessions.md
 */
import { createHash, createHmac } from 'node:crypto';
import type { Clock, Rng } from '../base/index.ts';

/** Who has logged in, as far as this layer cares; what else control knows travels with it. */
export interface Login {
  readonly virtualClusterId: number;
  readonly virtualClusterName: string;
  readonly user: string;
  readonly isAdmin: boolean;
  /** What the operator grants to the virtual cluster. */
  readonly capabilities: readonly string[];
  readonly sessionMs: number;
}

/** What sessions ask of the control layer. */
export interface LoginService<Identity extends Login = Login> {
  /** @throws AppError `authentication_failed`, `authorization_invalid`, `service_unavailable`, `too_many_connections` */
  logIn(request: {
    readonly virtualClusterName: string | undefined;
    readonly user: string;
    readonly password: string;
    readonly address: string | undefined;
    readonly signal: AbortSignal;
  }): Promise<Identity>;
  /** Undefined when the user is not that any more, or has another password. @throws AppError while nobody can tell */
  refresh(identity: Identity, options: { signal: AbortSignal }): Promise<Identity | undefined>;
}

interface Session<Identity> {
  identity: Identity;
  readonly expiresAtMs: number;
  checkedAtMs: number;
}

const TOKEN_BYTES = 32;
/** Of all users; the oldest make room. */
const SESSIONS_MAX = 10_000;
/** A role that is dropped, or whose password is changed, is out after this long. */
const CHECK_EVERY_MS = 10_000;
/** How long a password that came with a request is not checked again. */
const PASSWORD_MS_MAX = 60_000;

/** Only hashes of tokens are kept: who reads the memory of the node can log in as nobody. */
export class WebSessions<Identity extends Login = Login> {
  readonly #clock: Clock;
  readonly #rng: Rng;
  readonly #service: LoginService<Identity>;
  readonly #passwordKey: Uint8Array;
  readonly #sessions = new Map<string, Session<Identity>>();

  constructor(options: { clock: Clock; rng: Rng; service: LoginService<Identity> }) {
    this.#clock = options.clock;
    this.#rng = options.rng;
    this.#service = options.service;
    this.#passwordKey = options.rng.bytes(TOKEN_BYTES);
  }

  /** Gives the token that the browser keeps. @throws as `LoginService.logIn` */
  async logIn(
    request: Parameters<LoginService['logIn']>[0],
  ): Promise<{ readonly token: string; readonly identity: Identity }> {
    const identity = await this.#service.logIn(request);
    const token = Buffer.from(this.#rng.bytes(TOKEN_BYTES)).toString('base64url');
    this.#keep(token, identity, identity.sessionMs);
    return { token, identity };
  }

  #keep(token: string, identity: Identity, lifeMs: number): void {
    const nowMs = this.#clock.monotonicMs();
    const [oldest] = this.#sessions.keys();
    if (this.#sessions.size >= SESSIONS_MAX && oldest !== undefined) this.#sessions.delete(oldest);
    this.#sessions.set(keyOf(token), { identity, expiresAtMs: nowMs + lifeMs, checkedAtMs: nowMs });
  }

  /**
   * Who sends name and password with every request: checked once, and remembered for a while, for a check takes milliseconds and monitoring
   * asks often. @throws as `LoginService.logIn`
   */
  async once(request: Parameters<LoginService['logIn']>[0]): Promise<Identity> {
    const { virtualClusterName, user, password, signal } = request;
    const text = JSON.stringify([virtualClusterName, user, password]);
    const token = createHmac('sha256', this.#passwordKey).update(text).digest('base64url');
    const found = await this.find(token, { signal });
    if (found !== undefined) return found;
    const identity = await this.#service.logIn(request);
    this.#keep(token, identity, PASSWORD_MS_MAX);
    return identity;
  }

  /** Who holds this token; undefined when nobody does any more. @throws AppError when that can not be found out now */
  async find(token: string, options: { signal: AbortSignal }): Promise<Identity | undefined> {
    const key = keyOf(token);
    const session = this.#sessions.get(key);
    if (session === undefined) return undefined;
    const nowMs = this.#clock.monotonicMs();
    if (nowMs >= session.expiresAtMs) {
      this.#sessions.delete(key);
      return undefined;
    }
    if (nowMs - session.checkedAtMs < CHECK_EVERY_MS) return session.identity;
    const identity = await this.#service.refresh(session.identity, options);
    if (identity === undefined) {
      this.#sessions.delete(key);
      return undefined;
    }
    session.identity = identity;
    session.checkedAtMs = nowMs;
    // Ended meanwhile: then it stays so.
    return this.#sessions.has(key) ? identity : undefined;
  }

  /** Harmless when there is none of this token. */
  logOut(token: string): void {
    this.#sessions.delete(keyOf(token));
  }

  get size(): number {
    return this.#sessions.size;
  }
}

function keyOf(token: string): string {
  return createHash('sha256').update(token).digest('base64url');
}
