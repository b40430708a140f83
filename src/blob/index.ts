export * from './blob-key.ts';
export * from './blob-store.ts';
export * from './faulty.ts';
export { memoryBlobStore } from './memory.ts';
export { nodelocalBlobStore } from './nodelocal.ts';
export * from './nodelocal-uri.ts';
export { readBlob, throwIfAborted } from './read.ts';
export * from './service-location.ts';
export type { Patience } from './service/patience.ts';
