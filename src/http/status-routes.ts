import type { FastifyPluginAsync } from 'fastify';
import { InputError } from '../base/index.ts';
import { type HttpAccess, requireNodeRight, requireSight, viewerOf } from './access.ts';
import {
  formatFamilies,
  nodeFamilies,
  ProcessMetrics,
  visibilityOf,
  visibleFamilies,
  type MetricFamily,
} from './metrics.ts';

/** Where figures come from. */
export interface MetricsSource {
  /** Name of the virtual cluster that clients reach without naming one. */
  defaultTarget(): string;
  /** Whether a virtual cluster of this name is in use, serving or not. */
  hasVirtualCluster(name: string): boolean;
  /** All families, of the node and of every virtual cluster, as they are now. */
  collect(): Promise<readonly MetricFamily[]>;
}

const CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** The first is the documented one; the second is where Prometheus looks unless it is told otherwise. */
const PATHS = ['/_status/vars', '/metrics'] as const;

/**
 * `GET /_status/vars` and `GET /metrics`, for Prometheus: with `?cluster=system` every series, with `?cluster=NAME` those of that virtual cluster, without it
 * those of the login's or, where nobody logs in, of the default target; 404 for a name that none has. Users see their own. Readers at the same time share one collection.
 */
export function metricsRoutes(options: { metrics: MetricsSource; access: HttpAccess }): FastifyPluginAsync {
  const { metrics, access } = options;
  return async (app) => {
    const processMetrics = new ProcessMetrics();
    let running: Promise<readonly MetricFamily[]> | undefined;
    const collectOnce = async (): Promise<readonly MetricFamily[]> => {
      running ??= metrics.collect().finally(() => {
        running = undefined;
      });
      return await running;
    };
    for (const path of PATHS) {
      app.get<{ Querystring: { cluster?: string | string[] } }>(path, async (request, reply) => {
        const asked = request.query.cluster;
        const cluster = Array.isArray(asked) ? asked.at(-1) : asked;
        const viewer = await viewerOf(access, request);
        const defaultTarget =
          viewer.kind === 'user' ? viewer.login.virtualClusterName : metrics.defaultTarget();
        requireSight(viewer, cluster ?? defaultTarget);
        if (cluster !== undefined && !metrics.hasVirtualCluster(cluster)) throw unknownCluster(cluster);
        const visibility = visibilityOf({ cluster, defaultTarget });
        const families = visibleFamilies(await collectOnce(), visibility);
        const own = visibility.kind === 'all' ? await processMetrics.format() : '';
        return reply.type(CONTENT_TYPE).send((await formatFamilies(families)) + own);
      });
    }
    app.get('/_status/nodes/vars', async (request, reply) => {
      requireNodeRight(await viewerOf(access, request), 'can_view_tsdb_metrics');
      const families = nodeFamilies(await collectOnce());
      return reply
        .type(CONTENT_TYPE)
        .send((await formatFamilies(families)) + (await processMetrics.format()));
    });
  };
}

/** Names have at most 63 characters; what is longer need not be repeated. */
function unknownCluster(name: string): InputError {
  return new InputError('object_not_found', `there is no virtual cluster "${name.slice(0, 63)}"`, {
    hint: 'name one in ?cluster=, or ask for ?cluster=system to get the series of all',
  });
}
