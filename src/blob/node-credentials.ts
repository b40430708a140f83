/**
 * Where the libraries of storage services look for the node's own rights, `AUTH=implicit`: the names that the services document for their own
 * programs. Processes that reach a service with those rights are given these of our environment, and nothing else of it.
 */

const VALUES = [
  'AWS_ACCESS_KEY_ID',
  'AWS_SECRET_ACCESS_KEY',
  'AWS_SESSION_TOKEN',
  'AWS_PROFILE',
  'AWS_ROLE_ARN',
  'AWS_ROLE_SESSION_NAME',
  'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
  'AWS_CONTAINER_CREDENTIALS_FULL_URI',
  'AWS_CONTAINER_AUTHORIZATION_TOKEN',
  'AWS_EC2_METADATA_DISABLED',
  'AWS_EC2_METADATA_SERVICE_ENDPOINT',
  'AZURE_TENANT_ID',
  'AZURE_CLIENT_ID',
  'AZURE_CLIENT_SECRET',
  'AZURE_AUTHORITY_HOST',
  'AZURE_TOKEN_CREDENTIALS',
  'IDENTITY_ENDPOINT',
  'IDENTITY_HEADER',
  'MSI_ENDPOINT',
  'MSI_SECRET',
  'GCE_METADATA_HOST',
] as const;

/** These name files, which are read. */
const FILES = [
  'AWS_SHARED_CREDENTIALS_FILE',
  'AWS_CONFIG_FILE',
  'AWS_WEB_IDENTITY_TOKEN_FILE',
  'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE',
  'AZURE_CLIENT_CERTIFICATE_PATH',
  'AZURE_FEDERATED_TOKEN_FILE',
  'GOOGLE_APPLICATION_CREDENTIALS',
] as const;

/** What of our environment tells the node's rights. */
export function nodeCredentialVariables(): Readonly<Record<string, string>> {
  return Object.fromEntries([...VALUES, ...FILES].flatMap((name) => entryOf(name)));
}

/** Files that it names. */
export function nodeCredentialFiles(): readonly string[] {
  return FILES.flatMap((name) => entryOf(name).map(([, path]) => path));
}

function entryOf(name: string): readonly (readonly [string, string])[] {
  const value = process.env[name];
  return value === undefined || value === '' ? [] : [[name, value]];
}
