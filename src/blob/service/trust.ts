/** Which certificates of storage services are believed: the public authorities, and what setting `cloudstorage.http.custom_ca` adds. */
import { X509Certificate } from 'node:crypto';
import { InputError } from '../../base/index.ts';

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/**
 * All authorities, for options of TLS; undefined when nothing is added, and the library's own default will do.
 * @throws InputError `parameter_invalid` for text that holds no certificate, or a malformed one
 */
export function trustedAuthorities(customCa: string | null): readonly string[] | undefined {
  if (customCa === null) return undefined;
  const added = customCa.match(CERTIFICATE) ?? [];
  try {
    for (const pem of added) new X509Certificate(pem);
  } catch (error) {
    throw malformed('a certificate in it cannot be read', error);
  }
  if (added.length === 0) throw malformed('there is no certificate in it');
  // Loading TLS takes 20 ms, also where nobody asks for it.
  return [...process.getBuiltinModule('node:tls').rootCertificates, ...added];
}

function malformed(reason: string, cause?: unknown): InputError {
  return new InputError('parameter_invalid', `setting cloudstorage.http.custom_ca: ${reason}`, {
    cause,
    hint: 'set it to certificates in PEM, as they are in a file ca.crt, or reset it',
  });
}
