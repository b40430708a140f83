import {
  invalidUri,
  parseAuth,
  parseEndpoint,
  parseStorageUri,
  requireParameter,
  type StorageScheme,
  type StorageUri,
  type UriParameters,
} from '../storage-uri.ts';

const AZURE: StorageScheme = {
  name: 'Azure',
  parameters: [
    'AUTH',
    'AZURE_ACCOUNT_NAME',
    'AZURE_ACCOUNT_KEY',
    'AZURE_CLIENT_ID',
    'AZURE_CLIENT_SECRET',
    'AZURE_TENANT_ID',
    'AZURE_ENVIRONMENT',
    'AZURE_ENDPOINT',
  ],
};

/** Where the clouds of Azure keep blobs and keys, and whom they ask for tokens. */
const ENVIRONMENTS: ReadonlyMap<string, AzureCloud> = new Map([
  [
    'AZUREPUBLICCLOUD',
    {
      blobDomain: 'blob.core.windows.net',
      vaultDomain: 'vault.azure.net',
      authority: 'https://login.microsoftonline.com',
    },
  ],
  [
    'AZUREUSGOVERNMENTCLOUD',
    {
      blobDomain: 'blob.core.usgovcloudapi.net',
      vaultDomain: 'vault.usgovcloudapi.net',
      authority: 'https://login.microsoftonline.us',
    },
  ],
  [
    'AZURECHINACLOUD',
    {
      blobDomain: 'blob.core.chinacloudapi.cn',
      vaultDomain: 'vault.azure.cn',
      authority: 'https://login.chinacloudapi.cn',
    },
  ],
  [
    'AZUREGERMANCLOUD',
    {
      blobDomain: 'blob.core.cloudapi.de',
      vaultDomain: 'vault.microsoftazure.de',
      authority: 'https://login.microsoftonline.de',
    },
  ],
]);

interface AzureCloud {
  readonly blobDomain: string;
  readonly vaultDomain: string;
  readonly authority: string;
}

export type AzureCredentials =
  | { readonly kind: 'account_key'; readonly accountKey: string }
  | {
      readonly kind: 'client_secret';
      readonly tenantId: string;
      readonly clientId: string;
      readonly clientSecret: string;
      readonly authority: string;
    }
  | { readonly kind: 'implicit'; readonly authority: string };

/** A container of Azure Blob Storage. Holds secrets. */
export interface AzureLocation {
  readonly kind: 'azure';
  readonly container: string;
  readonly folder: string;
  readonly accountName: string;
  /** URL of the account, without a slash at its end. */
  readonly accountUrl: string;
  /** True when the URI named the server itself. */
  readonly hasOwnEndpoint: boolean;
  readonly credentials: AzureCredentials;
}

/** @throws InputError `parameter_invalid` */
export function parseAzureUri(text: string): AzureLocation {
  const uri = parseStorageUri(text, AZURE);
  const accountName = requireParameter(uri, AZURE, 'AZURE_ACCOUNT_NAME');
  if (!/^[a-z0-9-]{1,63}$/.test(accountName)) {
    throw invalidUri(
      AZURE,
      'AZURE_ACCOUNT_NAME is no name of an account',
      'write its name alone, not its address',
    );
  }
  const cloud = parseAzureCloud(uri, AZURE);
  const endpoint = parseEndpoint(uri, AZURE, 'AZURE_ENDPOINT');
  return {
    kind: 'azure',
    container: uri.host,
    folder: uri.path,
    accountName,
    accountUrl:
      endpoint === null ? `https://${accountName}.${cloud.blobDomain}` : `${endpoint}/${accountName}`,
    hasOwnEndpoint: endpoint !== null,
    credentials: parseCredentials(uri, cloud),
  };
}

/** @throws InputError `parameter_invalid` */
export function parseAzureCloud(uri: UriParameters, scheme: StorageScheme): AzureCloud {
  const cloud = ENVIRONMENTS.get(
    (uri.parameters.get('AZURE_ENVIRONMENT') ?? 'AZUREPUBLICCLOUD').toUpperCase(),
  );
  if (cloud !== undefined) return cloud;
  throw invalidUri(
    scheme,
    'unknown AZURE_ENVIRONMENT',
    `it is one of ${[...ENVIRONMENTS.keys()].join(', ')}`,
  );
}

function parseCredentials(uri: StorageUri, { authority }: AzureCloud): AzureCredentials {
  if (parseAuth(uri, AZURE) === 'implicit') return { kind: 'implicit', authority };
  const accountKey = uri.parameters.get('AZURE_ACCOUNT_KEY');
  const isByClient = ['AZURE_CLIENT_ID', 'AZURE_CLIENT_SECRET', 'AZURE_TENANT_ID'].some((name) =>
    uri.parameters.has(name),
  );
  if (accountKey !== undefined && isByClient) {
    throw invalidUri(
      AZURE,
      'it has an account key and a client',
      'give AZURE_ACCOUNT_KEY, or the three of the client',
    );
  }
  if (!isByClient) {
    const key = requireParameter(uri, AZURE, 'AZURE_ACCOUNT_KEY');
    if (!/^[A-Za-z0-9+/]+={0,2}$/.test(key)) {
      throw invalidUri(AZURE, 'AZURE_ACCOUNT_KEY is not base64', 'URL-encode it: a "+" is %2B, a "/" is %2F');
    }
    return { kind: 'account_key', accountKey: key };
  }
  return parseAzureTokenCredentials(uri, AZURE, { authority });
}

/** What gets tokens. @throws InputError `parameter_invalid` */
export function parseAzureTokenCredentials(
  uri: UriParameters,
  scheme: StorageScheme,
  { authority }: Pick<AzureCloud, 'authority'>,
): Exclude<AzureCredentials, { kind: 'account_key' }> {
  if (parseAuth(uri, scheme) === 'implicit') return { kind: 'implicit', authority };
  return {
    kind: 'client_secret',
    tenantId: requireParameter(uri, scheme, 'AZURE_TENANT_ID'),
    clientId: requireParameter(uri, scheme, 'AZURE_CLIENT_ID'),
    clientSecret: requireParameter(uri, scheme, 'AZURE_CLIENT_SECRET'),
    authority,
  };
}
