/**
 * Name of the file by which a data directory that is being written tells which of its files are whole. Who writes the directory goes on
 * by it; who begins to recover it removes it first, for from then on nothing in the directory is what was written.
 */
export const RESTORE_PROGRESS_FILE = 'atoll_restore_progress';
