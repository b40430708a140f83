export * from './backend-messages.ts';
export * from './certificate-signature.ts';
export * from './frontend-messages.ts';
export * from './reader.ts';
export * from './startup.ts';
export * from './types.ts';
export * from './writer.ts';
