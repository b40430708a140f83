export type { FrontDoorCounters } from './counters.ts';
export {
  FRONT_DOOR_LIMITS,
  type FrontDoor,
  type FrontDoorLimits,
  type FrontDoorOptions,
  type ListenOptions,
  openFrontDoor,
} from './front-door.ts';
export type { FrontDoorTls } from './front-door.ts';
export type { SessionService } from './service.ts';
export {
  LATENCY_BOUNDS_MS,
  type LatencyFigures,
  type StatementFigures,
  sumFigures,
} from './statement-figures.ts';
export type { PrincipalMap, TlsMaterial } from './tls.ts';
