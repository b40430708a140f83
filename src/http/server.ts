import { Server as SecureServer } from 'node:https';
import type { SecureContextOptions } from 'node:tls';
import Fastify, { type FastifyError, type FastifyInstance, type FastifyPluginAsync } from 'fastify';
import { AppError, errnoOf, isAppError, toError, type Clock, type Logger } from '../base/index.ts';
import { type HttpAccess, requireSameSite } from './access.ts';
import { loginRoutes } from './login-routes.ts';
import { healthRoutes, type NodeStatus } from './health.ts';
import { nodeRoutes } from './node-routes.ts';
import { metricsRoutes, type MetricsSource } from './status-routes.ts';

const BODY_BYTES_MAX = 1024 * 1024;
const HEADER_BYTES_MAX = 16 * 1024;
/** Within which a request has arrived whole, from its first byte on or, for the first one, from when the connection was made. */
const REQUEST_MS_MAX = 30_000;
/** How often it is looked who takes longer. */
const LOOK_MS_MAX = 5000;
const IDLE_TIMEOUT_MS = 60_000;
const CONNECTIONS_MAX = 1024;
/** How long running requests may take to end when the server closes. */
const CLOSE_TIMEOUT_MS = 3_000;

const UNSUPPORTED_MEDIA_TYPE = 415;
const JSON_HINT = 'send the body as JSON, with the header content-type: application/json';

const SECURITY_HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy':
    "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
} as const;

/** A part of the server that brings its own routes, such as the API or the console. */
export interface HttpMount {
  /** Path under which the routes lie, e.g. `/api/v1`. */
  readonly prefix: string;
  readonly routes: FastifyPluginAsync;
}

/** By what the server shows itself to browsers. PEM. */
export interface HttpCertificate {
  readonly certificate: string;
  readonly key: string;
}

export interface HttpServerOptions {
  /** An empty host means all addresses, port 0 one of the system's choice. */
  readonly address: { readonly host: string; readonly port: number };
  /** Undefined: nothing is encrypted. PEM. */
  readonly certificate: HttpCertificate | undefined;
  readonly status: NodeStatus;
  readonly metrics: MetricsSource;
  readonly access: HttpAccess;
  readonly mounts: readonly HttpMount[];
  /** What a request may take to arrive, 30 s when left out. */
  readonly requestMsMax?: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The node's HTTP server: health, metrics, and what is mounted beside them. */
export class HttpServer {
  readonly #app: FastifyInstance;
  readonly #clock: Clock;
  readonly port: number;

  private constructor(app: FastifyInstance, options: { clock: Clock; port: number }) {
    this.#app = app;
    this.#clock = options.clock;
    this.port = options.port;
  }

  /** Listens when it resolves. @throws AppError `address_in_use`, `io` */
  static async open(options: HttpServerOptions): Promise<HttpServer> {
    const { address } = options;
    const app = await build(options);
    try {
      await app.listen({ host: address.host === '' ? '::' : address.host, port: address.port });
    } catch (error) {
      await app.close();
      throw listenError(toError(error), address);
    }
    const bound = app.server.address();
    const port = typeof bound === 'object' && bound !== null ? bound.port : address.port;
    return new HttpServer(app, { clock: options.clock, port });
  }

  /** Shows itself to new connections by another certificate. @throws Error when it does not fit its key */
  useCertificate(certificate: HttpCertificate): void {
    if (this.#app.server instanceof SecureServer) this.#app.server.setSecureContext(tlsOptions(certificate));
  }

  /** Takes no new requests, lets running ones end for a few seconds, then cuts them. */
  async close(): Promise<void> {
    const limit = new AbortController();
    const cutting = this.#clock.sleep(CLOSE_TIMEOUT_MS, { signal: limit.signal }).then(
      () => this.#app.server.closeAllConnections(),
      () => undefined,
    );
    await this.#app.close();
    limit.abort();
    await cutting;
  }
}

async function build(options: HttpServerOptions): Promise<FastifyInstance> {
  const { logger, status, metrics, access, mounts, certificate, requestMsMax = REQUEST_MS_MAX } = options;
  const limits = {
    maxHeaderSize: HEADER_BYTES_MAX,
    headersTimeout: requestMsMax,
    connectionsCheckingInterval: Math.min(requestMsMax, LOOK_MS_MAX),
  };
  const app: FastifyInstance = Fastify({
    logger: false,
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: requestMsMax,
    keepAliveTimeout: IDLE_TIMEOUT_MS,
    forceCloseConnections: 'idle',
    ...(certificate === undefined ? { http: limits } : { https: { ...limits, ...tlsOptions(certificate) } }),
    routerOptions: { maxParamLength: 256 },
  });
  app.server.maxConnections = CONNECTIONS_MAX;
  app.addHook('onRequest', async (request, reply) => {
    void reply.headers(SECURITY_HEADERS);
    requireSameSite(request);
  });
  app.setNotFoundHandler(async (request, reply) => {
    await reply
      .status(404)
      .send(errorBody('not_found', `no such path: ${request.method} ${pathOf(request.url)}`));
  });
  app.setErrorHandler(async (error: FastifyError, request, reply) => {
    if (isAppError(error)) {
      await reply.status(error.row.http).send(errorBody(error.code, error.message, error.hint));
      return;
    }
    const statusCode = error.statusCode ?? 500;
    if (statusCode < 500) {
      const hint = statusCode === UNSUPPORTED_MEDIA_TYPE ? JSON_HINT : undefined;
      await reply.status(statusCode).send(errorBody('request_invalid', error.message, hint));
      return;
    }
    logger.error(`HTTP ${request.method} ${pathOf(request.url)} failed`, error);
    await reply.status(500).send(errorBody('internal', 'internal error; the log of the node tells more'));
  });
  await app.register(healthRoutes(status));
  await app.register(loginRoutes(access));
  await app.register(nodeRoutes({ status, access }));
  await app.register(metricsRoutes({ metrics, access }));
  for (const { prefix, routes } of mounts) await app.register(routes, { prefix });
  return app;
}

function tlsOptions({ certificate, key }: HttpCertificate): SecureContextOptions {
  return { cert: certificate, key, minVersion: 'TLSv1.2', honorCipherOrder: true };
}

function errorBody(code: string, message: string, hint?: string): object {
  return { error: { code, message, ...(hint === undefined ? {} : { hint }) } };
}

/** The path alone: queries may hold what is no business of a log. */
function pathOf(url: string): string {
  return (url.split('?')[0] ?? '').slice(0, 200);
}

function listenError(error: Error, { host, port }: { host: string; port: number }): AppError {
  const place = `${host === '' ? 'all addresses' : host}, port ${port}`;
  if (errnoOf(error) === 'EADDRINUSE') {
    return new AppError('address_in_use', `the HTTP address is in use: ${place}`, {
      cause: error,
      hint: 'stop what listens there, or choose another with --http-addr',
    });
  }
  return new AppError('io', `cannot listen for HTTP on ${place}: ${error.message}`, {
    cause: error,
    hint: 'choose another address with --http-addr',
  });
}
