/** Who a request comes from, and whether a browser was led to send it. */
import type { IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import type { FastifyRequest } from 'fastify';
import { InputError, SYSTEM_VIRTUAL_CLUSTER_NAME } from '../base/index.ts';
import type { Login, WebSessions } from './sessions.ts';

export const SESSION_COOKIE = 'session';
/** Names the virtual cluster that a browser looks at; no secret, and no right to it. */
export const CLUSTER_COOKIE = 'cluster';

const COOKIES_BYTES_MAX = 8_192;
const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS']);

/** How a node's HTTP port decides whom it tells what. */
export type HttpAccess =
  /** Nobody has a password: whoever reaches the port is the operator. */
  | { readonly kind: 'open' }
  | {
      readonly kind: 'login';
      readonly sessions: WebSessions;
      /** Takes passwords that come unencrypted from other machines. */
      readonly acceptsPlain: boolean;
    };

/** Whom a request is answered as. */
export type Viewer = { readonly kind: 'operator' } | { readonly kind: 'user'; readonly login: Login };

/** By the session's cookie, or by name and password in every request, as Prometheus does. @throws AppError `authentication_failed` */
export async function viewerOf(access: HttpAccess, request: FastifyRequest): Promise<Viewer> {
  if (access.kind === 'open') return { kind: 'operator' };
  const { sessions } = access;
  const token = sessionTokenOf(request.raw);
  const found =
    token === undefined
      ? undefined
      : await whileConnected(request, (signal) => sessions.find(token, { signal }));
  if (found !== undefined) return { kind: 'user', login: found };
  const basic = basicCredentialsOf(request.headers.authorization);
  if (basic === undefined) {
    throw new InputError('authentication_failed', 'this needs a login', {
      hint: 'POST /_admin/v1/login with username and password, or send them by basic authentication',
    });
  }
  requirePrivacy(access, request);
  const cluster = clusterOf(request);
  const address = request.socket.remoteAddress;
  const login = await whileConnected(request, (signal) =>
    sessions.once({ ...basic, virtualClusterName: cluster, address, signal }),
  );
  return { kind: 'user', login };
}

/** The virtual cluster that a request names: `?cluster=`, `?options=-ccluster=`, else the cookie. */
export function clusterOf(request: FastifyRequest): string | undefined {
  const query = request.query as Readonly<Record<string, string | readonly string[] | undefined>>;
  const last = (name: string) => {
    const value = query[name];
    return typeof value === 'string' ? value : value?.at(-1);
  };
  const named = last('cluster') ?? /(?:^|\s)-c\s*cluster=(\S+)/.exec(last('options') ?? '')?.[1];
  return named ?? (cookiesOf(request.raw).get(CLUSTER_COOKIE) || undefined);
}

/** Users of the system virtual cluster see all; others what is their own. @throws InputError `insufficient_privilege` */
export function requireSight(viewer: Viewer, cluster: string): void {
  if (viewer.kind === 'operator') return;
  const { virtualClusterName } = viewer.login;
  if (virtualClusterName === SYSTEM_VIRTUAL_CLUSTER_NAME || virtualClusterName === cluster) return;
  // The same whether there is one of the name or not.
  throw new InputError(
    'insufficient_privilege',
    `this login is for virtual cluster "${virtualClusterName}"`,
    {
      hint: 'log in to the other one; users of the system virtual cluster see all',
    },
  );
}

/** Rights that a virtual cluster has over what is the node's, as the operator grants them. */
export type NodeRight = 'can_view_node_info' | 'can_view_tsdb_metrics' | 'can_debug_process';

/** Of users of an app virtual cluster only its admins, and only if it has the capability. @throws InputError `insufficient_privilege` */
export function requireNodeRight(viewer: Viewer, right: NodeRight): void {
  if (viewer.kind === 'operator') return;
  const { virtualClusterName, isAdmin, capabilities } = viewer.login;
  if (virtualClusterName === SYSTEM_VIRTUAL_CLUSTER_NAME || (isAdmin && capabilities.includes(right))) return;
  throw new InputError(
    'insufficient_privilege',
    isAdmin
      ? `virtual cluster "${virtualClusterName}" does not have capability "${right}"`
      : `only admins of virtual cluster "${virtualClusterName}" may see what is the node's`,
    isAdmin
      ? {
          hint: `the operator can grant it: ALTER VIRTUAL CLUSTER ${virtualClusterName} GRANT CAPABILITY ${right}`,
        }
      : {},
  );
}

/** Passwords come encrypted, or from this machine, unless the operator says otherwise. @throws InputError `authorization_invalid` */
export function requirePrivacy(access: HttpAccess & { kind: 'login' }, request: FastifyRequest): void {
  if (access.acceptsPlain || request.raw.socket instanceof TLSSocket) return;
  if (/^(?:::ffff:)?127\.|^::1$/.test(request.socket.remoteAddress ?? '')) return;
  throw new InputError('authorization_invalid', 'this node takes passwords over encrypted connections only', {
    hint: 'start it with --certs-dir, or with --accept-sql-without-tls if the network is private',
  });
}

/**
 * Refuses what another site's page makes a browser send along with the user's cookies. Browsers say where a request comes from; who says
 * nothing is no browser, and has no cookies that it does not mean. @throws InputError `insufficient_privilege`
 */
export function requireSameSite(request: FastifyRequest): void {
  if (SAFE_METHODS.has(request.method)) return;
  const { host, origin } = request.headers;
  const site = request.headers['sec-fetch-site'];
  const isForeign =
    site === undefined
      ? origin !== undefined && hostOf(origin) !== host
      : site !== 'same-origin' && site !== 'none';
  if (!isForeign) return;
  throw new InputError('insufficient_privilege', 'a page of another site has sent this request', {
    hint: 'only pages of this node may change something here',
  });
}

export function sessionTokenOf(request: IncomingMessage): string | undefined {
  return cookiesOf(request).get(SESSION_COOKIE) || undefined;
}

/** The signal aborts when the client goes away. (That of the request itself aborts when its body has been read.) */
export async function whileConnected<T>(
  { socket }: FastifyRequest,
  use: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const gone = new AbortController();
  const onClose = () => gone.abort();
  socket.once('close', onClose);
  try {
    return await use(gone.signal);
  } finally {
    socket.off('close', onClose);
  }
}

/** A cookie's header. Without `lifeMs` it is taken away. */
export function cookie(
  name: string,
  value: string,
  options: { request: FastifyRequest; lifeMs: number; isSecret: boolean },
): string {
  const parts = [
    `${name}=${value}`,
    'Path=/',
    'SameSite=Lax',
    `Max-Age=${Math.floor(options.lifeMs / 1_000)}`,
  ];
  if (options.isSecret) parts.push('HttpOnly');
  if (options.request.raw.socket instanceof TLSSocket) parts.push('Secure');
  return parts.join('; ');
}

function cookiesOf(request: IncomingMessage): ReadonlyMap<string, string> {
  const cookies = new Map<string, string>();
  const text = request.headers.cookie ?? '';
  if (text.length > COOKIES_BYTES_MAX) return cookies;
  for (const part of text.split(';')) {
    const at = part.indexOf('=');
    const name = part.slice(0, at).trim();
    // The first of a name counts: it has the longest path, and another port of this host may have set the others.
    if (at > 0 && !cookies.has(name)) cookies.set(name, part.slice(at + 1).trim());
  }
  return cookies;
}

function basicCredentialsOf(header: string | undefined): { user: string; password: string } | undefined {
  const encoded = /^basic ([a-z0-9+/=]+)$/i.exec(header ?? '')?.[1];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, 'base64').toString('utf8');
  const at = text.indexOf(':');
  return at <= 0 ? undefined : { user: text.slice(0, at), password: text.slice(at + 1) };
}

function hostOf(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}
