import type { FastifyPluginAsync, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { InputError } from '../base/index.ts';
import {
  CLUSTER_COOKIE,
  clusterOf,
  cookie,
  type HttpAccess,
  requirePrivacy,
  SESSION_COOKIE,
  sessionTokenOf,
  viewerOf,
  whileConnected,
} from './access.ts';
import type { Login } from './sessions.ts';

const credentialsSchema = z.object({
  username: z.string().min(1).max(128),
  password: z.string().max(1024),
  /** The virtual cluster; the query or the cookie may name it too. */
  cluster: z.string().min(1).max(128).optional(),
});

/**
 * `POST /_admin/v1/login` with `{username, password, cluster?}` begins a session, `POST /_admin/v1/logout` ends it, `GET
 * /_admin/v1/session` tells whose it is. Answers never say whether a name exists.
 */
export function loginRoutes(access: HttpAccess): FastifyPluginAsync {
  return async (app) => {
    app.post('/_admin/v1/login', async (request, reply) => {
      if (access.kind === 'open') return { login: null };
      requirePrivacy(access, request);
      const { username, password, cluster } = credentialsOf(request);
      const asked = {
        virtualClusterName: cluster ?? clusterOf(request),
        user: username,
        password,
        address: request.socket.remoteAddress,
      };
      const { token, identity } = await whileConnected(request, (signal) =>
        access.sessions.logIn({ ...asked, signal }),
      );
      // A session that the browser had before, be it one that somebody foisted on it, is over.
      const former = sessionTokenOf(request.raw);
      if (former !== undefined) access.sessions.logOut(former);
      const lifeMs = identity.sessionMs;
      void reply.header('set-cookie', [
        cookie(SESSION_COOKIE, token, { request, lifeMs, isSecret: true }),
        cookie(CLUSTER_COOKIE, identity.virtualClusterName, { request, lifeMs, isSecret: false }),
      ]);
      return { login: shownLogin(identity) };
    });
    app.post('/_admin/v1/logout', async (request, reply) => {
      const token = sessionTokenOf(request.raw);
      if (token !== undefined && access.kind === 'login') access.sessions.logOut(token);
      void reply.header('set-cookie', [
        cookie(SESSION_COOKIE, '', { request, lifeMs: 0, isSecret: true }),
        cookie(CLUSTER_COOKIE, '', { request, lifeMs: 0, isSecret: false }),
      ]);
      return { login: null };
    });
    app.get('/_admin/v1/session', async (request) => {
      const viewer = await viewerOf(access, request);
      return { login: viewer.kind === 'operator' ? null : shownLogin(viewer.login) };
    });
  };
}

/** What a page may know. */
function shownLogin({ user, virtualClusterName, isAdmin }: Login): object {
  return { username: user, cluster: virtualClusterName, isAdmin };
}

/** @throws InputError `parameter_invalid`, which repeats nothing of what was sent */
function credentialsOf(request: FastifyRequest): z.infer<typeof credentialsSchema> {
  const parsed = credentialsSchema.safeParse(request.body);
  if (parsed.success) return parsed.data;
  throw new InputError('parameter_invalid', 'a login needs username and password', {
    hint: 'send {"username": ..., "password": ..., "cluster": ...} as application/json; the cluster may be left out',
  });
}
