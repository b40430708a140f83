export * from './cluster-key.ts';
export * from './node-certificates.ts';
