import { fromNodeProviderChain, fromTemporaryCredentials } from '@aws-sdk/credential-providers';
import type { S3Location } from './s3-uri.ts';

type CredentialProvider = ReturnType<typeof fromNodeProviderChain>;

const SESSION_NAME = 'atoll';

/**
 * Credentials of a location: its keys, or the node's, then the roles in their order, each taken with the credentials of
 * the one before. They are renewed before they expire.
 */
export function s3Credentials(
  { keys, roles }: Pick<S3Location, 'keys' | 'roles'>,
  {
    region,
    endpoint = null,
    requestHandler = {},
  }: {
    readonly region: string;
    readonly endpoint?: string | null;
    /** How the service that gives out roles is reached: time limits, and whom to believe. */
    readonly requestHandler?: object;
  },
): CredentialProvider {
  // Services of the S3 kind give out roles where they are asked for objects.
  const clientConfig = endpoint === null ? { region } : { region, endpoint };
  const first: CredentialProvider =
    keys === null
      ? fromNodeProviderChain({ clientConfig: { region } })
      : async () => ({
          accessKeyId: keys.accessKeyId,
          secretAccessKey: keys.secretAccessKey,
          ...(keys.sessionToken === null ? {} : { sessionToken: keys.sessionToken }),
        });
  return roles.reduce(
    (masterCredentials: CredentialProvider, { arn, externalId }) =>
      fromTemporaryCredentials({
        masterCredentials,
        clientConfig: { ...clientConfig, maxAttempts: 1, requestHandler },
        params: {
          RoleArn: arn,
          RoleSessionName: SESSION_NAME,
          ...(externalId === null ? {} : { ExternalId: externalId }),
        },
      }),
    first,
  );
}
