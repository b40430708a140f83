import type { FastifyPluginAsync } from 'fastify';

/** What the node says of itself. */
export interface NodeStatus {
  readonly nodeId: number;
  readonly release: string;
  /** `region=eu,zone=a`, or nothing. */
  readonly locality: string;
  /** Undefined when SQL clients are served, otherwise why they are not, e.g. `the node is starting`. */
  notReadyReason(): string | undefined;
}

/**
 * `GET /health`: 200 while the process is up. `GET /health?ready=1`: 200 only while SQL clients are served, else 503: for
 * load balancers.
 */
export function healthRoutes(status: NodeStatus): FastifyPluginAsync {
  return async (app) => {
    app.get<{ Querystring: { ready?: string | string[] } }>('/health', async (request, reply) => {
      const reason = status.notReadyReason();
      const asksReady = request.query.ready !== undefined && request.query.ready !== '0';
      if (asksReady && reason !== undefined) {
        return reply.status(503).send({
          error: { code: 'not_ready', message: reason },
          nodeId: status.nodeId,
          isReady: false,
        });
      }
      const { nodeId, release, locality } = status;
      return { nodeId, release, locality, isReady: reason === undefined };
    });
  };
}
