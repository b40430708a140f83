/** Storage that is reached over the network: which service, where in it, and with what rights. */
import type { BlobStore } from './blob-store.ts';
import { type AzureLocation, parseAzureUri } from './azure/azure-uri.ts';
import { type GsLocation, parseGsUri } from './gs/gs-uri.ts';
import { FROZEN_STORAGE_CLASSES, parseS3Uri, type S3Location } from './s3/s3-uri.ts';
import type { ObjectService } from './service/object-service.ts';
import type { Patience } from './service/patience.ts';
import { serviceBlobStore } from './service/service-blob-store.ts';
import { trustedAuthorities } from './service/trust.ts';

/** Plain data that can be handed to another process. Holds secrets: it is never logged, shown or stored. */
export type ServiceLocation = S3Location | AzureLocation | GsLocation;

export const SERVICE_SCHEMES = ['s3', 'gs', 'azure-blob', 'azure-storage', 'azure'] as const;

/** Reads a URI of a service; undefined for other schemes. @throws InputError `parameter_invalid` */
export function parseServiceUri(uri: string): ServiceLocation | undefined {
  switch (/^([a-z][a-z0-9+.-]*):/i.exec(uri)?.[1]?.toLowerCase()) {
    case 's3':
      return parseS3Uri(uri);
    case 'gs':
      return parseGsUri(uri);
    case 'azure':
    case 'azure-blob':
    case 'azure-storage':
      return parseAzureUri(uri);
    default:
      return undefined;
  }
}

/** Where it is, without secrets: equal for two locations exactly when they are the same place. */
export function serviceDisplayUri(location: ServiceLocation): string {
  const path =
    location.folder === '' ? '' : `/${location.folder.split('/').map(encodeURIComponent).join('/')}`;
  switch (location.kind) {
    case 's3': {
      const endpoint =
        location.endpoint === null ? '' : `?AWS_ENDPOINT=${encodeURIComponent(location.endpoint)}`;
      return `s3://${location.bucket}${path}${endpoint}`;
    }
    case 'gs': {
      const endpoint =
        location.endpoint === null ? '' : `?GS_ENDPOINT=${encodeURIComponent(location.endpoint)}`;
      return `gs://${location.bucket}${path}${endpoint}`;
    }
    case 'azure':
      return `azure-blob://${location.container}${path}?AZURE_ACCOUNT_NAME=${location.accountName}`;
  }
}

/** True when it is reached with the node's own rights, or at an address the user chose: both need a privilege. */
export function usesImplicitRights(location: ServiceLocation): boolean {
  switch (location.kind) {
    case 's3':
      return location.keys === null || location.endpoint !== null;
    case 'gs':
      return location.credentials === null || location.endpoint !== null;
    case 'azure':
      return location.credentials.kind === 'implicit' || location.hasOwnEndpoint;
  }
}

/** True when the rights come from the node itself, which `--external-io-disable-implicit-credentials` forbids. */
export function usesNodeCredentials(location: ServiceLocation): boolean {
  switch (location.kind) {
    case 's3':
      return location.keys === null;
    case 'gs':
      return location.credentials === null;
    case 'azure':
      return location.credentials.kind === 'implicit';
  }
}

/** True when what is written there cannot be read before somebody thaws it. */
export function isFrozen(location: ServiceLocation): boolean {
  return (
    location.kind === 's3' &&
    location.storageClass !== null &&
    FROZEN_STORAGE_CLASSES.includes(location.storageClass)
  );
}

export interface ServiceOptions {
  readonly displayUri: string;
  readonly patience: Patience;
  /** Setting `cloudstorage.azure.concurrent_upload_buffers`. */
  readonly azurePartsAtOnce: number;
  /** Setting `cloudstorage.http.custom_ca`: certificates in PEM that are believed beside the public authorities'; null for none. */
  readonly customCa?: string | null;
}

/** The objects there. The client library, which is large, is loaded at the first use. */
export function serviceStore(location: ServiceLocation, options: ServiceOptions): BlobStore {
  const { displayUri, patience } = options;
  const open = () => openObjectService(location, options);
  return serviceBlobStore({ displayUri, folder: location.folder, patience, open });
}

async function openObjectService(location: ServiceLocation, options: ServiceOptions): Promise<ObjectService> {
  const { displayUri, azurePartsAtOnce: partsAtOnce } = options;
  const authorities = trustedAuthorities(options.customCa ?? null);
  switch (location.kind) {
    case 's3':
      return (await import('./s3/s3-service.ts')).openS3(location, { displayUri, authorities });
    case 'azure':
      return (await import('./azure/azure-service.ts')).openAzure(location, {
        displayUri,
        partsAtOnce,
        authorities,
      });
    case 'gs':
      return (await import('./gs/gs-service.ts')).openGs(location, { displayUri, authorities });
  }
}
