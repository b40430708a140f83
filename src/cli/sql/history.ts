import { appendFileSync, chmodSync, readFileSync, writeFileSync } from 'node:fs';
import type { SplitStatement } from './splitter.ts';

/** Entries that are kept, in the file and for the arrow keys. */
export const HISTORY_ENTRIES_MAX = 2000;

/** Words near which secrets stand; a statement with one of them is not remembered. */
const SECRET = /passw|passphrase|secret|credentials|_key\s*=/i;

/** The entries a statement makes: one line where its lines can be joined, none when it may hold a secret. */
export function historyEntries(statement: SplitStatement): readonly string[] {
  if (SECRET.test(statement.text)) return [];
  if (!statement.hasFixedBreaks) return [statement.text.replace(/\s*\n\s*/g, ' ')];
  return statement.text.split('\n').filter((line) => line.trim() !== '');
}

/** The shell's memory in a file that only its owner reads. A home folder that cannot be written is no reason to fail. */
export class HistoryFile {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** Oldest first. */
  load(): readonly string[] {
    try {
      const entries = readFileSync(this.#path, 'utf8')
        .split('\n')
        .filter((line) => line !== '');
      const kept = entries.slice(-HISTORY_ENTRIES_MAX);
      chmodSync(this.#path, 0o600);
      if (entries.length > 2 * HISTORY_ENTRIES_MAX) {
        writeFileSync(this.#path, kept.map((entry) => `${entry}\n`).join(''), { mode: 0o600 });
      }
      return kept;
    } catch {
      return [];
    }
  }

  append(entries: readonly string[]): void {
    if (entries.length === 0) return;
    try {
      appendFileSync(this.#path, entries.map((entry) => `${entry}\n`).join(''), { mode: 0o600 });
    } catch {
      // The session goes on without.
    }
  }
}
