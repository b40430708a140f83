import { ClientSecretCredential, DefaultAzureCredential } from '@azure/identity';
import type { AzureCredentials } from './azure-uri.ts';

/** Whom to believe, as the libraries take it. */
export interface AzureTls {
  readonly tlsOptions?: { ca: string[] };
}

/** What gets tokens: with a client's secret, or the node's own rights. */
export function azureTokenCredential(
  credentials: Exclude<AzureCredentials, { kind: 'account_key' }>,
  tls: AzureTls = {},
): ClientSecretCredential | DefaultAzureCredential {
  const authorityHost = credentials.authority;
  if (credentials.kind === 'implicit') return new DefaultAzureCredential({ authorityHost, ...tls });
  const { tenantId, clientId, clientSecret } = credentials;
  return new ClientSecretCredential(tenantId, clientId, clientSecret, { authorityHost, ...tls });
}
