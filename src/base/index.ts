export * from './assert.ts';
export * from './brands.ts';
export * from './clock.ts';
export * from './errors.ts';
export * from './file-lock.ts';
export * from './histogram.ts';
export * from './logger.ts';
export * from './mutex.ts';
export { RESTORE_PROGRESS_FILE } from './restore-progress-file.ts';
