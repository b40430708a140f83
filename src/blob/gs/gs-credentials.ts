import type { Agent } from 'node:https';
import { type AuthClient, GoogleAuth, Impersonated, JWT } from 'google-auth-library';
import type { GsLocation } from './gs-uri.ts';

const CLOUD_SCOPE = 'https://www.googleapis.com/auth/cloud-platform';
/** How Google's services are reached, as the library takes it. */
export interface GoogleTransport {
  readonly agent?: Agent;
}

const TOKEN_LIFETIME_SECONDS = 3600;
/** No request of ours names a project. The library would look for one: run `gcloud`, and ask services that the node may not reach. */
const NO_PROJECT = 'none';

/** Credentials of a location: its key, or the node's, then the accounts in their order, each by the one before. */
export async function googleClient(
  { credentials, roles }: Pick<GsLocation, 'credentials' | 'roles'>,
  {
    scope,
    transporterOptions = {},
  }: { readonly scope: string; readonly transporterOptions?: GoogleTransport },
): Promise<AuthClient> {
  const scopes = roles.length === 0 ? [scope] : [CLOUD_SCOPE];
  let client: AuthClient =
    credentials === null
      ? await new GoogleAuth({
          scopes,
          projectId: NO_PROJECT,
          clientOptions: { transporterOptions },
        }).getClient()
      : new JWT({ email: credentials.clientEmail, key: credentials.privateKey, scopes, transporterOptions });
  for (const targetPrincipal of roles) {
    client = new Impersonated({
      sourceClient: client,
      targetPrincipal,
      lifetime: TOKEN_LIFETIME_SECONDS,
      delegates: [],
      targetScopes: [CLOUD_SCOPE],
      transporterOptions,
    });
  }
  return client;
}
