/** How a connection to another server of Postgres is encrypted, as `sslmode` and its like say it. */
import type { ConnectionOptions } from 'node:tls';

/** Texts (PEM), not paths: whoever connects is another process, under another user. */
export interface SourceTls {
  /** As of libpq. `prefer`: encrypted where the server does so, nothing verified. */
  readonly mode: 'disable' | 'prefer' | 'require' | 'verify-ca' | 'verify-full';
  /** Who must have signed the server's certificate; null with `prefer`. With one, `require` verifies as `verify-ca` does, as in libpq. */
  readonly authority: string | null;
  /** Our own, with its key; both or none. */
  readonly certificate: string | null;
  readonly key: string | null;
}

export const PLAIN_SOURCE: SourceTls = { mode: 'disable', authority: null, certificate: null, key: null };

/** What a client of node-postgres takes as `ssl`, in the order in which it is tried: on failure, the next. Never empty. */
export function tlsAttempts(tls: SourceTls): readonly (false | ConnectionOptions)[] {
  const { mode, authority, certificate, key } = tls;
  if (mode === 'disable') return [false];
  const options: ConnectionOptions = {
    rejectUnauthorized: authority !== null || mode === 'verify-ca' || mode === 'verify-full',
    ...(authority === null ? {} : { ca: authority }),
    ...(certificate === null ? {} : { cert: certificate }),
    ...(key === null ? {} : { key }),
    ...(mode === 'verify-full' ? {} : { checkServerIdentity: () => undefined }),
  };
  return mode === 'prefer' ? [options, false] : [options];
}
