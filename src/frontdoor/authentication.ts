import { InputError, type Rng } from '../base/index.ts';
import type { FrontDoorService, LoginThrottle, Route } from '../control/index.ts';
import {
  decodePassword,
  decodeSaslInitialResponse,
  decodeUtf8,
  encodeAuthenticationSasl,
  encodeAuthenticationSaslContinue,
  encodeAuthenticationSaslFinal,
  FRONTEND,
  protocolViolation,
} from '../pg/index.ts';
import type { PacketReader } from './packet-reader.ts';
import { SCRAM_MECHANISM, SCRAM_PLUS_MECHANISM, ScramServer } from './scram.ts';

/** As many as Postgres takes. */
const NONCE_BYTES = 18;

export interface AuthenticationOptions {
  readonly user: string;
  readonly route: Route;
  readonly service: Pick<FrontDoorService, 'credential'>;
  readonly mockKey: Uint8Array;
  readonly rng: Rng;
  readonly reader: Pick<PacketReader, 'next'>;
  readonly throttle: Pick<LoginThrottle, 'admit' | 'succeeded'>;
  /** Undefined for the socket file. */
  readonly address: string | undefined;
  readonly send: (message: Buffer) => void;
  /** What the login may be bound to; undefined without TLS. */
  readonly channelBinding: Buffer | undefined;
  readonly signal: AbortSignal;
}

/**
 * Lets the client prove that it knows the role's password, by SCRAM-SHA-256. AuthenticationOk is left to the backend,
 * which may still refuse the role.
 * @throws InputError `authentication_failed`, `protocol_violation`; AppError `too_many_connections` when too many have failed before
 */
export async function authenticateByScram(options: AuthenticationOptions): Promise<void> {
  const { user, route, service, mockKey, rng, reader, send, channelBinding, signal } = options;
  const { virtualClusterId } = route;
  const credential = await service.credential({ virtualClusterId, user, signal });
  const nonce = Buffer.from(rng.bytes(NONCE_BYTES)).toString('base64');
  const offered = channelBinding === undefined ? [SCRAM_MECHANISM] : [SCRAM_PLUS_MECHANISM, SCRAM_MECHANISM];
  send(encodeAuthenticationSasl(offered));
  const initial = decodeSaslInitialResponse(await passwordMessage(reader));
  if (!offered.includes(initial.mechanism)) {
    throw protocolViolation('client selected an invalid SASL authentication mechanism');
  }
  const isBound = initial.mechanism === SCRAM_PLUS_MECHANISM;
  const scram = new ScramServer({ user, credential, mockKey, nonce, channelBinding, isBound });
  send(encodeAuthenticationSaslContinue(scram.begin(decodeUtf8(initial.data))));
  const final = decodePassword(await passwordMessage(reader));
  const attempt = { address: options.address, virtualClusterId, user };
  await options.throttle.admit(attempt, { signal });
  const proof = scram.finish(decodeUtf8(final));
  options.throttle.succeeded(attempt);
  send(encodeAuthenticationSaslFinal(proof));
}

async function passwordMessage(reader: Pick<PacketReader, 'next'>): Promise<Buffer> {
  const message = await reader.next();
  if (message[0] !== FRONTEND.password) {
    throw new InputError('protocol_violation', `expected SASL response, got message type ${message[0]}`);
  }
  return message;
}
