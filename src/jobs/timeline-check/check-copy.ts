/** Looks for damage in every database of a copy. */
import type { ScratchCopy } from '../../instance/index.ts';
import { checkDatabase } from './check-database.ts';

export interface CopyCheck {
  databases: number;
  tables: number;
  indexes: number;
  /** What is damaged, a sentence each. */
  readonly findings: string[];
}

/**
 * Adds what is found to `check`, so that it is known also when something fails half-way.
 * @throws AppError when the copy cannot be asked any more
 */
export async function checkCopy(
  copy: ScratchCopy,
  options: {
    readonly check: CopyCheck;
    /** Share of the databases that are done, and the relation whose turn it is. */
    readonly onRelation: (share: number, what: string) => void;
    /** Told what could not be checked, and is no sign of damage. */
    readonly onUnchecked: (sentence: string) => void;
  },
): Promise<void> {
  const { check, onRelation, onUnchecked } = options;
  for (const database of copy.databases) {
    const share = check.databases / copy.databases.length;
    const found = await copy.withChecker(database, (client) =>
      checkDatabase(client, {
        onRelation: (name) => onRelation(share, `checking ${name} in database "${database}"`),
      }),
    );
    check.databases += 1;
    check.tables += found.tables;
    check.indexes += found.indexes;
    check.findings.push(...found.findings.map((finding) => `database "${database}", ${finding}`));
    for (const sentence of found.unchecked) onUnchecked(`database "${database}", ${sentence}`);
  }
}
