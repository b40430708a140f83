/**
 * Credentials of the clouds, for other services of theirs than storage: how URIs name them, and what gets at them. The libraries are large:
 * each is loaded at the first use.
 */
export { type AzureCredentials, parseAzureCloud, parseAzureTokenCredentials } from './azure/azure-uri.ts';
export { type GsCredentials, parseGoogleCredentials, parseGoogleRoles } from './gs/gs-uri.ts';
export { type AssumedRole, parseAwsKeys, parseAwsRoles, type S3Keys } from './s3/s3-uri.ts';
export {
  invalidUri,
  parseAuth,
  parseEndpoint,
  parseParameters,
  requireParameter,
  type StorageScheme,
} from './storage-uri.ts';

export const loadAwsCredentials = async () => (await import('./s3/s3-credentials.ts')).s3Credentials;
export const loadGoogleClient = async () => (await import('./gs/gs-credentials.ts')).googleClient;
export const loadAzureCredential = async () =>
  (await import('./azure/azure-credentials.ts')).azureTokenCredential;
