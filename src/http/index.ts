export type { NodeStatus } from './health.ts';
export type { MetricFamily, MetricSample } from './metrics.ts';
export { HttpServer, type HttpMount, type HttpServerOptions } from './server.ts';
export type { MetricsSource } from './status-routes.ts';
