import { AppError } from '../base/index.ts';
import {
  BACKEND,
  type CancelKey,
  decodeBackendKeyData,
  encodeStartup,
  MESSAGE_BYTES_MAX,
  protocolViolation,
  type ReadyStatus,
} from '../pg/index.ts';
import { Channel } from './channel.ts';
import type { LanePool } from './fast-lane.ts';
import { PacketReader, typedPacketLength } from './packet-reader.ts';

/** A backend that has let us in. */
export interface Upstream {
  readonly channel: Channel;
  /** All it said up to and including ReadyForQuery, by message. */
  readonly greeting: readonly Buffer[];
  /** Undefined on the connections that get none. */
  readonly cancelKey: CancelKey | undefined;
  readonly status: ReadyStatus;
  /** Bytes that came behind ReadyForQuery. */
  readonly rest: Buffer;
}

export type UpstreamLogin =
  | { readonly kind: 'admitted'; readonly upstream: Upstream }
  /** Postgres refused; the bytes are its messages, for the client. */
  | { readonly kind: 'refused'; readonly messages: Buffer };

export interface UpstreamOptions {
  readonly socketPath: string;
  readonly protocol: number;
  readonly parameters: ReadonlyMap<string, string>;
  readonly pool: LanePool | undefined;
  readonly signal: AbortSignal;
}

/** Login triggers may say much, but not without end. */
const GREETING_BYTES_MAX = 4_194_304;

/**
 * Logs in over an instance's private socket, where peer authentication lets the daemon in as any role. The channel's
 * events are the caller's from the moment this returns.
 * @throws AppError `cannot_connect_now` when the instance does not take connections
 */
export async function logIn(options: UpstreamOptions): Promise<UpstreamLogin> {
  const reader = new PacketReader({
    lengthOf: typedPacketLength({
      bytesMax: MESSAGE_BYTES_MAX,
      onTooLong: () => protocolViolation('invalid message length from the backend'),
    }),
  });
  const channel = Channel.toSocket(options.socketPath, {
    pool: options.pool,
    events: {
      onData: (bytes) => reader.push(bytes),
      onEnd: () => reader.end(noConnection()),
      onDrain: () => undefined,
      onClose: () => reader.end(noConnection()),
    },
  });
  const abort = (): void => reader.end(new AppError('cancelled', 'cancelled while logging in'));
  options.signal.addEventListener('abort', abort, { once: true });
  if (options.signal.aborted) abort();
  try {
    channel.write(encodeStartup(options));
    const login = await readGreeting(channel, reader);
    if (login.kind === 'refused') channel.destroy();
    return login;
  } catch (error) {
    channel.destroy();
    throw error;
  } finally {
    options.signal.removeEventListener('abort', abort);
  }
}

function noConnection(): AppError {
  return new AppError('cannot_connect_now', 'the server of the virtual cluster does not accept connections', {
    hint: 'it may be starting or stopping; connect again in a moment',
  });
}

async function readGreeting(channel: Channel, reader: PacketReader): Promise<UpstreamLogin> {
  const greeting: Buffer[] = [];
  let bytes = 0;
  let cancelKey: CancelKey | undefined;
  for (;;) {
    const message = await reader.next();
    bytes += message.length;
    if (bytes > GREETING_BYTES_MAX) throw protocolViolation('the backend says too much at login');
    switch (message[0]) {
      case BACKEND.authentication:
        if (message.readInt32BE(5) !== 0) {
          throw new AppError('internal', 'the instance asks for a password on its private socket', {
            hint: "restart the virtual cluster's service; its pg_hba.conf is not ours",
          });
        }
        greeting.push(message);
        break;
      case BACKEND.negotiateProtocolVersion:
        break; // The client has been told already what it gets.
      case BACKEND.errorResponse:
        return { kind: 'refused', messages: Buffer.concat([...greeting.filter(isNotice), message]) };
      case BACKEND.backendKeyData:
        cancelKey = decodeBackendKeyData(message);
        greeting.push(message);
        break;
      case BACKEND.readyForQuery: {
        greeting.push(message);
        const status = String.fromCharCode(message.readUInt8(5)) as ReadyStatus;
        const rest = reader.takeRest();
        return { kind: 'admitted', upstream: { channel, greeting, cancelKey, status, rest } };
      }
      default:
        greeting.push(message);
    }
  }
}

function isNotice(message: Buffer): boolean {
  return message[0] === BACKEND.noticeResponse;
}
