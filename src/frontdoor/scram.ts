import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { InputError } from '../base/index.ts';
import type { Credential } from '../control/index.ts';
import { parseVerifier, SCRAM_KEY_BYTES, type ScramVerifier } from '../pg/index.ts';

/** The one mechanism there is without TLS; with it, the other stands before it. */
export const SCRAM_MECHANISM = 'SCRAM-SHA-256';
/** The same, bound to the server's certificate: who relays the login over another one fails. */
export const SCRAM_PLUS_MECHANISM = 'SCRAM-SHA-256-PLUS';
const BINDING_TYPE = 'tls-server-end-point';

/** As Postgres's default `scram_iterations`, for the exchange that is only acted. */
const MOCK_ITERATIONS = 4096;
const MOCK_SALT_BYTES = 16;

export interface ScramServerOptions {
  readonly user: string;
  /** Undefined when there is no such role. */
  readonly credential: Credential | undefined;
  /** Random for each process: makes the salt of a role that does not exist the same on every attempt. */
  readonly mockKey: Uint8Array;
  /** The server's part of the nonce: random, printable, without commas. */
  readonly nonce: string;
  /** What a login can be bound to; undefined without TLS. */
  readonly channelBinding?: Buffer | undefined;
  /** The client chose `SCRAM-SHA-256-PLUS`. */
  readonly isBound?: boolean;
}

/**
 * The server's side of one SCRAM-SHA-256 exchange (RFC 5802, RFC 7677). Who has no usable password goes through the same
 * steps and fails at the end like anyone with a wrong one, so that names can't be probed.
 */
export class ScramServer {
  readonly #options: ScramServerOptions;
  readonly #verifier: ScramVerifier;
  readonly #isMock: boolean;
  #clientFirstBare = '';
  /** What the client must repeat at the end: its header, and the binding if there is one. */
  #channelBinding = Buffer.alloc(0);
  #serverFirst = '';
  #nonce = '';

  constructor(options: ScramServerOptions) {
    this.#options = options;
    const { credential } = options;
    const verifier = parseVerifier(credential?.verifier ?? '');
    this.#isMock = verifier === undefined || credential?.isExpired !== false;
    this.#verifier = verifier ?? mockVerifier(options);
  }

  /** Takes client-first-message, gives server-first-message. @throws InputError `protocol_violation`, `feature_not_supported` */
  begin(clientFirst: string): string {
    const match = /^([nyp])(?:=([A-Za-z0-9.-]*))?,(?:a=[^,]*)?,(.*)$/s.exec(clientFirst);
    if (match === null) throw malformed();
    const binding = this.#requireBinding({ flag: match[1] ?? '', type: match[2] });
    const bare = match[3] ?? '';
    if (bare.startsWith('m=')) {
      throw new InputError('feature_not_supported', 'client requires an unsupported SCRAM extension');
    }
    // The user name in here is ignored, as in Postgres: the one of the StartupMessage counts.
    const nonce = /^n=[^,]*,r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?$/s.exec(bare)?.[1];
    if (nonce === undefined) throw malformed();
    const header = clientFirst.slice(0, clientFirst.length - bare.length);
    this.#channelBinding = Buffer.concat([Buffer.from(header), binding]);
    this.#clientFirstBare = bare;
    this.#nonce = nonce + this.#options.nonce;
    this.#serverFirst = `r=${this.#nonce},s=${this.#verifier.salt.toString('base64')},i=${this.#verifier.iterations}`;
    return this.#serverFirst;
  }

  /**
   * Takes client-final-message, gives server-final-message.
   * @throws InputError `authentication_failed` when the password is wrong, `protocol_violation`
   */
  finish(clientFinal: string): string {
    const match = /^(c=([A-Za-z0-9+/=]*),r=([^,]*)(?:,.*)?),p=([A-Za-z0-9+/=]+)$/s.exec(clientFinal);
    if (match === null) throw malformed();
    const [, withoutProof = '', channelBinding = '', nonce = '', proofText = ''] = match;
    if (!Buffer.from(channelBinding, 'base64').equals(this.#channelBinding)) {
      if (this.#options.isBound !== true) {
        throw malformed('unexpected SCRAM channel-binding attribute in client-final-message');
      }
      const { user } = this.#options;
      throw new InputError('authentication_failed', `the login of "${user}" is bound to another connection`, {
        hint: 'something between client and server ends the encryption: log in by a certificate, or past it',
      });
    }
    if (nonce !== this.#nonce) throw malformed('nonce does not match');
    const proof = Buffer.from(proofText, 'base64');
    if (proof.length !== SCRAM_KEY_BYTES) throw malformed();
    const authMessage = `${this.#clientFirstBare},${this.#serverFirst},${withoutProof}`;
    const signature = hmac(this.#verifier.storedKey, authMessage);
    const clientKey = Buffer.from(proof.map((byte, at) => byte ^ (signature[at] ?? 0)));
    const isRight = timingSafeEqual(sha256(clientKey), this.#verifier.storedKey);
    if (!isRight || this.#isMock) throw this.#failure();
    return `v=${hmac(this.#verifier.serverKey, authMessage).toString('base64')}`;
  }

  /** What the flag in the client's header asks for, checked against what was chosen. @throws InputError `protocol_violation` */
  #requireBinding({ flag, type }: { flag: string; type: string | undefined }): Buffer {
    const { channelBinding, isBound = false } = this.#options;
    if (flag === 'p' && !isBound) throw malformed('the client binds to a channel without having chosen so');
    if (flag !== 'p' && isBound) throw malformed('the client chose channel binding and does not bind');
    if (flag === 'y' && channelBinding !== undefined) {
      // It can bind and thinks that we can't: somebody has changed our offer.
      throw malformed(
        'the client was not told that channel binding is supported: the connection is tampered with',
      );
    }
    if (flag !== 'p') return Buffer.alloc(0);
    if (type === BINDING_TYPE && channelBinding !== undefined) return channelBinding;
    throw malformed(`unsupported type of channel binding: ${type}`);
  }

  #failure(): InputError {
    const { user, credential } = this.#options;
    const isMd5 = credential?.verifier?.startsWith('md5') === true;
    return new InputError(
      'authentication_failed',
      `password authentication failed for user "${user}"`,
      isMd5
        ? { hint: 'the password is kept as an md5 hash, which is not accepted; set it again with ALTER ROLE' }
        : {},
    );
  }
}

function mockVerifier(options: ScramServerOptions): ScramVerifier {
  const salt = hmac(Buffer.from(options.mockKey), options.user).subarray(0, MOCK_SALT_BYTES);
  const key = (name: string): Buffer => hmac(Buffer.from(options.mockKey), `${name} ${options.user}`);
  return { iterations: MOCK_ITERATIONS, salt, storedKey: key('stored key'), serverKey: key('server key') };
}

function malformed(detail = 'malformed SCRAM message'): InputError<'protocol_violation'> {
  return new InputError('protocol_violation', detail);
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text, 'utf8').digest();
}

function sha256(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest();
}
