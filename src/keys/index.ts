export * from './cluster-key.ts';
export * from './data-key.ts';
export * from './encryption-info.ts';
export * from './key-file.ts';
export * from './node-certificates.ts';
export * from './passphrase.ts';
