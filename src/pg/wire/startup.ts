import { BodyReader, protocolViolation } from './reader.ts';
import { STARTUP_PACKET_BYTES_MAX } from './types.ts';
import { MessageWriter } from './writer.ts';

const CANCEL_REQUEST = 80_877_102;
const SSL_REQUEST = 80_877_103;
const GSSENC_REQUEST = 80_877_104;

/** Names one running backend to its own server. The key is 4 bytes in protocol 3.0 and up to 256 in 3.2. */
export interface CancelKey {
  readonly processId: number;
  readonly secret: Uint8Array;
}

/** What a client may send first. */
export type StartupPacket =
  | { readonly kind: 'ssl_request' }
  | { readonly kind: 'gssenc_request' }
  | { readonly kind: 'cancel_request'; readonly key: CancelKey }
  | {
      readonly kind: 'startup';
      /** Major in the high half, minor in the low one. */
      readonly protocol: number;
      /** In the order sent; a name given twice keeps its last value. */
      readonly parameters: ReadonlyMap<string, string>;
    };

/**
 * Length of the packet that `bytes` begins with, or undefined while its length field is incomplete.
 * @throws InputError `protocol_violation` when no start-up packet may be that long
 */
export function startupPacketLength(bytes: Buffer): number | undefined {
  if (bytes.length < 4) return undefined;
  const length = bytes.readUInt32BE(0);
  if (length < 8 || length > STARTUP_PACKET_BYTES_MAX) {
    throw protocolViolation('invalid length of startup packet');
  }
  return length;
}

/** Reads one whole packet, length field included. @throws InputError `protocol_violation` */
export function decodeStartupPacket(packet: Buffer): StartupPacket {
  const reader = new BodyReader(packet, { begin: 4, end: packet.length });
  const code = reader.uint32();
  switch (code) {
    case SSL_REQUEST:
      return { kind: 'ssl_request' };
    case GSSENC_REQUEST:
      return { kind: 'gssenc_request' };
    case CANCEL_REQUEST: {
      const processId = reader.uint32();
      const secret = Uint8Array.from(reader.bytes(reader.bytesLeft));
      if (secret.length === 0 || secret.length > 256) {
        throw protocolViolation('invalid length of cancel request packet');
      }
      return { kind: 'cancel_request', key: { processId, secret } };
    }
    default:
      return { kind: 'startup', protocol: code, parameters: decodeParameters(code, reader) };
  }
}

function decodeParameters(protocol: number, reader: BodyReader): ReadonlyMap<string, string> {
  if (protocol >>> 16 !== 3) {
    throw protocolViolation(
      `unsupported frontend protocol ${protocol >>> 16}.${protocol & 0xffff}: server supports 3.0 to 3.2`,
    );
  }
  const parameters = new Map<string, string>();
  for (let name = reader.cstring(); name !== ''; name = reader.cstring()) {
    parameters.set(name, reader.cstring());
  }
  if (reader.bytesLeft !== 0) {
    throw protocolViolation('invalid startup packet layout: expected terminator as last byte');
  }
  return parameters;
}

export function encodeStartup(options: {
  protocol: number;
  parameters: ReadonlyMap<string, string>;
}): Buffer {
  const writer = new MessageWriter().beginUntyped().uint32(options.protocol);
  for (const [name, value] of options.parameters) writer.cstring(name).cstring(value);
  return writer.uint8(0).end().take();
}

export function encodeSslRequest(): Buffer {
  return new MessageWriter().beginUntyped().uint32(SSL_REQUEST).end().take();
}

export function encodeGssencRequest(): Buffer {
  return new MessageWriter().beginUntyped().uint32(GSSENC_REQUEST).end().take();
}

export function encodeCancelRequest(key: CancelKey): Buffer {
  const writer = new MessageWriter().beginUntyped().uint32(CANCEL_REQUEST);
  return writer.uint32(key.processId).bytes(key.secret).end().take();
}

const WHITESPACE = ' \t\n\v\f\r';

/** Splits the `options` parameter as Postgres does: at whitespace, a backslash protects the character behind it. */
export function splitStartupOptions(text: string): string[] {
  const args: string[] = [];
  let arg: string | undefined;
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at);
    if (WHITESPACE.includes(char)) {
      if (arg !== undefined) args.push(arg);
      arg = undefined;
    } else if (char === '\\' && at + 1 < text.length) {
      arg = (arg ?? '') + text.charAt(++at);
    } else {
      arg = (arg ?? '') + (char === '\\' ? '' : char);
    }
  }
  if (arg !== undefined) args.push(arg);
  return args;
}

/** The inverse of `splitStartupOptions`. */
export function joinStartupOptions(args: readonly string[]): string {
  return args.map((arg) => arg.replace(/[\\ \t\n\v\f\r]/g, (char) => `\\${char}`)).join(' ');
}
