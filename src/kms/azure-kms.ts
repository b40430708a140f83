/** Azure Key Vault, whose RSA keys wrap by RSA-OAEP-256. Source of the facts: Azure Key Vault REST API, "Wrap Key" and "Unwrap Key". */
import { CryptographyClient, type CryptographyClientOptions } from '@azure/keyvault-keys';
import { errnoOf } from '../base/index.ts';
import { loadAzureCredential } from '../blob/index.ts';
import { kmsError, type KmsService } from './kms-key.ts';
import type { AzureKmsLocation } from './kms-uri.ts';

const ALGORITHM = 'RSA-OAEP-256';

/** What the library asks for tokens. */
export interface TokenCredential {
  getToken(
    scopes: string | string[],
  ): Promise<{ readonly token: string; readonly expiresOnTimestamp: number }>;
}

/** `credential` takes the place of the location's own. */
export async function openAzureKms(
  location: AzureKmsLocation,
  options: {
    readonly displayUri: string;
    readonly credential?: TokenCredential;
    readonly tlsOptions?: CryptographyClientOptions['tlsOptions'];
  },
): Promise<KmsService> {
  const { key, version, vaultUrl, hasOwnEndpoint } = location;
  const { displayUri, tlsOptions } = options;
  const credential = options.credential ?? (await loadAzureCredential())(location.credentials);
  const client = new CryptographyClient(`${vaultUrl}/keys/${key}/${version}`, credential, {
    retryOptions: { maxRetries: 0 }, // Trying again is done above, with one limit for all services.
    // A vault at an address of one's own is in no domain of Azure's.
    disableChallengeResourceVerification: hasOwnEndpoint,
    ...(tlsOptions === undefined ? {} : { tlsOptions }),
  });
  return {
    wrap: (secret, { signal: abortSignal }) =>
      asked(displayUri, async () => (await client.wrapKey(ALGORITHM, secret, { abortSignal })).result),
    unwrap: (wrapped, { signal: abortSignal }) =>
      asked(displayUri, async () => (await client.unwrapKey(ALGORITHM, wrapped, { abortSignal })).result),
  };
}

async function asked(displayUri: string, work: () => Promise<Uint8Array>): Promise<Uint8Array> {
  try {
    return await work();
  } catch (error) {
    const { statusCode, code } = (error ?? {}) as { statusCode?: unknown; code?: unknown }; // A RestError, or anything.
    const status = typeof statusCode === 'number' ? statusCode : null;
    const isRefused = error instanceof Error && error.name === 'AuthenticationError';
    const word = errnoOf(error) ?? (typeof code === 'string' ? code : 'unknown');
    throw kmsError({ status: status ?? (isRefused ? 401 : null), word }, displayUri);
  }
}
