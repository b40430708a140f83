import { constants, createHash, X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContext, type TLSSocket, type TLSSocketOptions } from 'node:tls';
import { AppError, toError } from '../base/index.ts';
import { signatureHash } from '../pg/index.ts';

/** By what a front door shows itself, and who may vouch for clients. PEM. */
export interface TlsMaterial {
  /** The certificate, and behind it those between it and the CA, if any. */
  readonly certificate: string;
  readonly key: string;
  readonly clientAuthorities: string;
}

/** What is said to a client of another protocol that was led here (an attack named ALPACA). */
const PROTOCOL = 'postgresql';

/** The server's side of TLS, ready for handshakes. */
export class ServerTls {
  readonly #context: SecureContext;
  /**
   * `tls-server-end-point` of RFC 5929, to which SCRAM binds a login: whoever stands between has another certificate. Undefined for
   * certificates whose signature names no hash, such as Ed25519's.
   */
  readonly channelBinding: Buffer | undefined;

  /** @throws AppError `parameter_invalid` when the parts do not fit together */
  constructor(material: TlsMaterial) {
    try {
      this.#context = createSecureContext({
        cert: material.certificate,
        key: material.key,
        ca: material.clientAuthorities,
        minVersion: 'TLSv1.2',
        honorCipherOrder: true,
        // A session that is resumed would carry on by a certificate that may be gone from the list of the trusted.
        secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
      });
      this.channelBinding = endPointBinding(new X509Certificate(material.certificate));
    } catch (cause) {
      const error = toError(cause);
      throw new AppError('parameter_invalid', `unusable TLS certificate: ${error.message}`, { cause });
    }
  }

  get socketOptions(): TLSSocketOptions {
    return {
      isServer: true,
      secureContext: this.#context,
      requestCert: true,
      rejectUnauthorized: false, // We tell the client what is wrong with its certificate, which an alert cannot.
      ALPNProtocols: [PROTOCOL],
    };
  }
}

/** Who the client showed itself to be. */
export type TlsPeer =
  | { readonly kind: 'anonymous' }
  /** `name` is the common name of a certificate that one of our authorities vouches for. */
  | { readonly kind: 'certified'; readonly name: string }
  | { readonly kind: 'invalid'; readonly reason: string };

/** Reads the client's certificate, after the handshake. */
export function peerOf(socket: TLSSocket): TlsPeer {
  if (socket.getPeerX509Certificate() === undefined) return { kind: 'anonymous' };
  const failure = verifyError(socket);
  if (failure !== undefined) return { kind: 'invalid', reason: failure };
  const name: unknown = socket.getPeerCertificate().subject?.CN;
  if (typeof name === 'string' && name !== '') return { kind: 'certified', name };
  return { kind: 'invalid', reason: 'it must have one common name' };
}

/** OpenSSL's judgement. A socket that is not made by a `tls.Server` has no documented property for it. */
function verifyError(socket: TLSSocket): string | undefined {
  const handle: unknown = Reflect.get(socket, '_handle');
  const verify: unknown =
    typeof handle === 'object' && handle !== null ? Reflect.get(handle, 'verifyError') : undefined;
  if (typeof verify !== 'function') return 'it cannot be checked';
  const error: unknown = Reflect.apply(verify, handle, []);
  return error === null || error === undefined ? undefined : toError(error).message;
}

function endPointBinding(certificate: X509Certificate): Buffer | undefined {
  const hash = signatureHash(certificate.raw);
  return hash === undefined ? undefined : createHash(hash).update(certificate.raw).digest();
}

/** Which user names a certificate's name may log in as; the name itself where nothing is said of it. */
export type PrincipalMap = ReadonlyMap<string, readonly string[]>;

/** Whether who holds a certificate of `name` may be `user`. */
export function allowsUser(map: PrincipalMap, { name, user }: { name: string; user: string }): boolean {
  return (map.get(name) ?? [name]).includes(user);
}
