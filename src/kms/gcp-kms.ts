/**
 * Google Cloud KMS by its REST API, with Google's library for the rights. Source of the facts: Cloud KMS API, "Method:
 * projects.locations.keyRings.cryptoKeys.encrypt" and "decrypt".
 */
import type { AuthClient } from 'google-auth-library';
import { z } from 'zod';
import { AppError, errnoOf } from '../base/index.ts';
import { loadGoogleClient } from '../blob/index.ts';
import { crc32c } from '../pg/index.ts';
import { kmsError, type KmsService } from './kms-key.ts';
import type { GcpKmsLocation } from './kms-uri.ts';

const GOOGLE = 'https://cloudkms.googleapis.com';
const SCOPE = 'https://www.googleapis.com/auth/cloudkms';
/** What was wrapped for something else is not taken for a data key. */
const CONTEXT = Buffer.from('atoll data key');

const base64 = z.string().transform((text): Uint8Array => Buffer.from(text, 'base64'));
const encryptSchema = z.looseObject({
  ciphertext: base64,
  ciphertextCrc32c: z.string(),
  verifiedPlaintextCrc32c: z.literal(true),
  verifiedAdditionalAuthenticatedDataCrc32c: z.literal(true),
});
const decryptSchema = z.looseObject({ plaintext: base64, plaintextCrc32c: z.string() });
const failureSchema = z.looseObject({ error: z.looseObject({ status: z.string() }) });

/** `authClient` takes the place of the location's credentials. */
export async function openGcpKms(
  location: GcpKmsLocation,
  { displayUri, authClient }: { readonly displayUri: string; readonly authClient?: AuthClient },
): Promise<KmsService> {
  const client = authClient ?? (await (await loadGoogleClient())(location, { scope: SCOPE }));
  const url = `${location.endpoint ?? GOOGLE}/v1/${location.key.split('/').map(encodeURIComponent).join('/')}`;
  const context = {
    additionalAuthenticatedData: CONTEXT.toString('base64'),
    additionalAuthenticatedDataCrc32c: String(crc32c(CONTEXT)),
  };
  const ask = (method: string, data: object, signal: AbortSignal) =>
    asked(client, { url: `${url}:${method}`, data: { ...context, ...data }, displayUri, signal });
  return {
    async wrap(secret, { signal }) {
      const plaintext = { plaintext: base64Of(secret), plaintextCrc32c: String(crc32c(secret)) };
      const answer = encryptSchema.safeParse(await ask('encrypt', plaintext, signal));
      if (!answer.success) throw damaged(displayUri);
      return intact(answer.data.ciphertext, answer.data.ciphertextCrc32c, displayUri);
    },
    async unwrap(wrapped, { signal }) {
      const ciphertext = { ciphertext: base64Of(wrapped), ciphertextCrc32c: String(crc32c(wrapped)) };
      const answer = decryptSchema.safeParse(await ask('decrypt', ciphertext, signal));
      if (!answer.success) throw damaged(displayUri);
      return intact(answer.data.plaintext, answer.data.plaintextCrc32c, displayUri);
    },
  };
}

async function asked(
  client: AuthClient,
  request: { url: string; data: object; displayUri: string; signal: AbortSignal },
): Promise<unknown> {
  const { url, data, displayUri, signal } = request;
  try {
    const answer = await client.request<unknown>({
      url,
      method: 'POST',
      data,
      signal,
      retry: false,
      // The library's own ends the process when a request with a body is given up.
      fetchImplementation: fetch,
      validateStatus: () => true,
    });
    if (answer.status === 200) return answer.data;
    const failure = failureSchema.safeParse(answer.data);
    const word = failure.success ? failure.data.error.status : 'unknown';
    throw kmsError({ status: answer.status, word }, displayUri);
  } catch (error) {
    if (error instanceof AppError) throw error;
    const word = errnoOf(error) ?? (error instanceof Error ? error.name : 'unknown');
    throw kmsError({ status: null, word }, displayUri);
  }
}

function intact(bytes: Uint8Array, checksum: string, displayUri: string): Uint8Array {
  if (String(crc32c(bytes)) === checksum) return bytes;
  throw damaged(displayUri);
}

/** What was damaged on the way is asked for again. */
function damaged(displayUri: string): AppError {
  return kmsError({ status: 502, word: 'damaged answer' }, displayUri);
}

function base64Of(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}
