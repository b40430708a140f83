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
export type { PrincipalMap, TlsMaterial } from './tls.ts';
