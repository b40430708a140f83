export type { HttpAccess, Viewer } from './access.ts';
export type { NodeStatus } from './health.ts';
export { type Login, type LoginService, WebSessions } from './sessions.ts';
export { formatFamilies, type MetricFamily, type MetricSample } from './metrics.ts';
export { HttpServer, type HttpMount, type HttpServerOptions } from './server.ts';
export type { MetricsSource } from './status-routes.ts';
