import type { FastifyPluginAsync } from 'fastify';

/** What the node says of itself. */
export interface NodeStatus {
  readonly nodeId: number;
  readonly release: string;
  /** `region=eu,zone=a`, or nothing. */
  readonly locality: string;
  /** Undefined when SQL clients are served, otherwise why they are not, e.g. `the node is starting`. */
  notReadyReason(): string | undefined;
  /** Names of the virtual clusters that should serve and whose server is silent. Takes a bounded time. */
  notResponding(): Promise<readonly string[]>;
}

/**
 * `GET /health`: 200 while the process is up. `GET /health?ready=1`: 200 only while SQL clients are served, else 503: for
 * load balancers. Either names the virtual clusters that do not respond; that one of them is silent is no reason to send
 * the clients of the others away.
 */
export function healthRoutes(status: NodeStatus): FastifyPluginAsync {
  return async (app) => {
    let running: Promise<readonly string[]> | undefined;
    const notResponding = async (): Promise<readonly string[]> => {
      running ??= status.notResponding().finally(() => {
        running = undefined;
      });
      return await running;
    };
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
      const isReady = reason === undefined;
      return { nodeId, release, locality, isReady, notResponding: await notResponding() };
    });
  };
}
