/** A host and a TCP port. Port 0 lets the system choose. An empty host means all addresses of the machine. */
export interface Address {
  readonly host: string;
  readonly port: number;
}

/** Prints `host:port`, a host of colons in brackets. */
export function formatAddress({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** True when nobody outside the machine can reach the host. */
export function isLoopback(host: string): boolean {
  return /^localhost$/i.test(host) || /^127(?:\.\d{1,3}){3}$/.test(host) || host === '::1';
}

/** One level of a locality, `region=eu-west` among others. */
export interface LocalityTier {
  readonly key: string;
  readonly value: string;
}

/** Prints `region=eu,zone=a`; nothing for a node without locality. */
export function formatLocality(tiers: readonly LocalityTier[]): string {
  return tiers.map(({ key, value }) => `${key}=${value}`).join(',');
}
