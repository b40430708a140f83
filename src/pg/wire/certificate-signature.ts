const SEQUENCE = 0x30;
const OBJECT_IDENTIFIER = 0x06;

/** Signature algorithms by the bytes of their object identifiers, with the hash that RFC 5929 binds to. */
const HASHES: Readonly<Record<string, 'sha256' | 'sha384' | 'sha512'>> = {
  '2a864886f70d010104': 'sha256', // md5WithRSA: SHA-256 stands in, as for SHA-1.
  '2a864886f70d010105': 'sha256', // sha1WithRSA
  '2a864886f70d01010b': 'sha256',
  '2a864886f70d01010c': 'sha384',
  '2a864886f70d01010d': 'sha512',
  '2a8648ce3d0401': 'sha256', // ecdsa-with-SHA1
  '2a8648ce3d040302': 'sha256',
  '2a8648ce3d040303': 'sha384',
  '2a8648ce3d040304': 'sha512',
};

/**
 * The hash for the channel binding `tls-server-end-point` (RFC 5929, section 4.1) of a certificate (DER): that of its
 * signature. Undefined where the signature names none.
 */
export function signatureHash(der: Uint8Array): 'sha256' | 'sha384' | 'sha512' | undefined {
  const certificate = element(der, 0, SEQUENCE);
  const body = certificate && element(der, certificate.begin, SEQUENCE);
  const algorithm = body && element(der, body.end, SEQUENCE);
  const identifier = algorithm && element(der, algorithm.begin, OBJECT_IDENTIFIER);
  if (identifier === undefined) return undefined;
  return HASHES[Buffer.from(der.subarray(identifier.begin, identifier.end)).toString('hex')];
}

/** Where the content of a DER element lies; undefined when it is malformed or of another kind. */
function element(der: Uint8Array, at: number, tag: number): { begin: number; end: number } | undefined {
  const first = der[at + 1];
  if (der[at] !== tag || first === undefined) return undefined;
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f;
  if (lengthBytes > 4) return undefined;
  let length = first < 0x80 ? first : 0;
  for (let index = 0; index < lengthBytes; index += 1) length = length * 256 + (der[at + 2 + index] ?? 0);
  const begin = at + 2 + lengthBytes;
  return begin + length > der.length ? undefined : { begin, end: begin + length };
}
