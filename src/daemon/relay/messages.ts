/**
 * What the daemon and a relay process say to each other, over the channel that Node.js gives a parent and its child. Both
 * ends are this program in this version, so nothing here is durable.
 */
import {
  AppError,
  ERRORS,
  toError,
  type ErrorCode,
  type LogScope,
  type Severity,
  type VirtualClusterId,
} from '../../base/index.ts';
import type { ExecuteContext, FrontDoorService, Notice, SessionIdentity } from '../../control/index.ts';
import type {
  FrontDoorCounters,
  FrontDoorTls,
  StatementFigures,
  TlsMaterial,
} from '../../frontdoor/index.ts';
import type { CancelKey } from '../../pg/index.ts';
import type { Statement } from '../../sql/index.ts';

type Arguments<Method extends 'route' | 'credential' | 'authorize' | 'authorizeBySystem'> = Omit<
  Parameters<Required<FrontDoorService>[Method]>[0],
  'signal'
>;

/** What a session asks of the control layer, without what cannot travel. */
export type Question =
  | ({ readonly method: 'route' } & Arguments<'route'>)
  | ({ readonly method: 'credential' } & Arguments<'credential'>)
  | ({ readonly method: 'authorize' } & Arguments<'authorize'>)
  | ({ readonly method: 'authorizeBySystem' } & Arguments<'authorizeBySystem'>)
  | { readonly method: 'screen'; readonly session: SessionIdentity; readonly text: string }
  | { readonly method: 'describe'; readonly statement: Statement; readonly session: SessionIdentity }
  | {
      readonly method: 'execute';
      readonly statement: Statement;
      readonly context: Omit<ExecuteContext, 'onNotice' | 'signal'>;
    };

/** How a relay process listens. */
export interface RelayListen {
  readonly host: string;
  readonly port: number;
  readonly authentication: 'insecure' | 'scram';
  /** Its key goes over the channel between the two, which nobody else has. */
  readonly tls: FrontDoorTls | undefined;
  /** The same in all processes, so that logins of unknown roles look the same in all. */
  readonly mockKey: Uint8Array;
}

export interface RelayFigures {
  readonly counters: FrontDoorCounters;
  readonly sessions: number;
  readonly statements: ReadonlyMap<VirtualClusterId, StatementFigures>;
}

export type ToRelay =
  | { readonly kind: 'listen'; readonly listen: RelayListen }
  | { readonly kind: 'answered'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'refused'; readonly id: number; readonly error: TravellingError }
  | { readonly kind: 'notice'; readonly id: number; readonly notice: Notice }
  | { readonly kind: 'cancel'; readonly key: CancelKey }
  | { readonly kind: 'certificate'; readonly material: TlsMaterial }
  | { readonly kind: 'report'; readonly id: number }
  | { readonly kind: 'close' };

export type FromRelay =
  | { readonly kind: 'listening' }
  | { readonly kind: 'failed'; readonly error: TravellingError }
  | { readonly kind: 'ask'; readonly id: number; readonly question: Question }
  /** The session that asked is gone, or its client has cancelled. */
  | { readonly kind: 'withdraw'; readonly id: number }
  | { readonly kind: 'cancel_elsewhere'; readonly key: CancelKey }
  | { readonly kind: 'figures'; readonly id: number; readonly figures: RelayFigures }
  | {
      readonly kind: 'log';
      readonly severity: Severity;
      readonly message: string;
      readonly scope: LogScope | undefined;
    };

/** An error without its class, which does not travel. */
export interface TravellingError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string | undefined;
  readonly detail: string | undefined;
  readonly position: number | undefined;
}

export function toTravelling(thrown: unknown): TravellingError {
  const error = toError(thrown);
  if (!(error instanceof AppError)) {
    return {
      code: 'internal',
      message: error.message,
      hint: undefined,
      detail: undefined,
      position: undefined,
    };
  }
  const { code, message, hint, detail, position } = error;
  return { code, message, hint, detail, position };
}

export function fromTravelling(error: TravellingError): AppError {
  const code: ErrorCode = Object.hasOwn(ERRORS, error.code) ? error.code : 'internal';
  return new AppError(code, error.message, {
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    ...(error.detail === undefined ? {} : { detail: error.detail }),
    ...(error.position === undefined ? {} : { position: error.position }),
  });
}
