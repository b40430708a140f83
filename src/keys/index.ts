export * from './cluster-key.ts';
