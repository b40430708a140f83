/** AWS KMS. Source of the facts: AWS Key Management Service API Reference, Encrypt and Decrypt. */
import { DecryptCommand, EncryptCommand, KMSClient, KMSServiceException } from '@aws-sdk/client-kms';
import { errnoOf } from '../base/index.ts';
import { loadAwsCredentials } from '../blob/index.ts';
import { kmsError, type KmsService } from './kms-key.ts';
import type { AwsKmsLocation } from './kms-uri.ts';

/** What was wrapped for something else is not taken for a data key; it is seen in the service's audit log. */
const CONTEXT = { purpose: 'atoll-data-key' };

export async function openAwsKms(
  { key: KeyId, region, keys, roles, endpoint }: AwsKmsLocation,
  { displayUri }: { readonly displayUri: string },
): Promise<KmsService> {
  const credentials = (await loadAwsCredentials())({ keys, roles }, { region });
  const client = new KMSClient({
    region,
    credentials,
    maxAttempts: 1, // Trying again is done above, with one limit for all services.
    ...(endpoint === null ? {} : { endpoint }),
  });
  return {
    wrap: (Plaintext, { signal: abortSignal }) =>
      asked(displayUri, async () => {
        const request = new EncryptCommand({ KeyId, Plaintext, EncryptionContext: CONTEXT });
        return (await client.send(request, { abortSignal })).CiphertextBlob;
      }),
    unwrap: (CiphertextBlob, { signal: abortSignal }) =>
      asked(displayUri, async () => {
        const request = new DecryptCommand({ KeyId, CiphertextBlob, EncryptionContext: CONTEXT });
        return (await client.send(request, { abortSignal })).Plaintext;
      }),
  };
}

async function asked(displayUri: string, work: () => Promise<Uint8Array | undefined>): Promise<Uint8Array> {
  try {
    const answer = await work();
    if (answer !== undefined) return answer;
  } catch (error) {
    if (error instanceof KMSServiceException) {
      throw kmsError({ status: error.$metadata.httpStatusCode ?? null, word: error.name }, displayUri);
    }
    const word = errnoOf(error) ?? (error instanceof Error ? error.name : 'unknown');
    throw kmsError({ status: word === 'CredentialsProviderError' ? 401 : null, word }, displayUri);
  }
  throw kmsError({ status: 502, word: 'empty answer' }, displayUri);
}
