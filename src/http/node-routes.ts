import { availableParallelism, freemem, loadavg, totalmem } from 'node:os';
import { getHeapStatistics } from 'node:v8';
import type { FastifyPluginAsync } from 'fastify';
import { type HttpAccess, requireNodeRight, viewerOf } from './access.ts';
import type { NodeStatus } from './health.ts';

/**
 * What a node says of itself beyond `/health`: `GET /_status/nodes` with the capability `can_view_node_info`, `GET /_status/nodes/process`, for finding
 * out what the daemon is busy with, with `can_debug_process`. Neither names anything of a virtual cluster's.
 */
export function nodeRoutes(options: { status: NodeStatus; access: HttpAccess }): FastifyPluginAsync {
  const { status, access } = options;
  return async (app) => {
    app.get('/_status/nodes', async (request) => {
      requireNodeRight(await viewerOf(access, request), 'can_view_node_info');
      const { nodeId, release, locality } = status;
      const [loadAverage = 0] = loadavg();
      const machine = {
        processors: availableParallelism(),
        loadAverage,
        memoryBytes: totalmem(),
        freeMemoryBytes: freemem(),
      };
      return {
        nodes: [{ nodeId, release, locality, isReady: status.notReadyReason() === undefined, machine }],
      };
    });
    app.get('/_status/nodes/process', async (request) => {
      requireNodeRight(await viewerOf(access, request), 'can_debug_process');
      const waitingFor: Record<string, number> = {};
      for (const kind of process.getActiveResourcesInfo()) waitingFor[kind] = (waitingFor[kind] ?? 0) + 1;
      const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
      return {
        runtime: process.versions.node,
        uptimeSeconds: process.uptime(),
        processorMicros: { user: userCPUTime, system: systemCPUTime },
        memory: { ...process.memoryUsage(), peakBytes: maxRSS * 1024 },
        heap: getHeapStatistics(),
        waitingFor,
      };
    });
  };
}
