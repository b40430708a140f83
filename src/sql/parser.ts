import type { Located, Statement } from './ast.ts';
import { statementHelp } from './help.ts';
import { ALTER_BACKUP_RULES, BACKUP_RULES } from './parse-backup.ts';
import { CONNECTION_RULES } from './parse-connections.ts';
import { FILE_RULES } from './parse-files.ts';
import { JOB_RULES } from './parse-jobs.ts';
import { PRIVILEGE_RULES } from './parse-privileges.ts';
import { ROLE_RULES } from './parse-roles.ts';
import { SCHEDULE_RULES } from './parse-schedules.ts';
import { SETTING_RULES } from './parse-settings.ts';
import { SHOW_CREATE_RULES } from './parse-show-create.ts';
import { SYSTEM_TABLE_RULES } from './parse-system-table.ts';
import { TABLE_EXCLUSION_RULES } from './parse-table-exclusion.ts';
import { VIRTUAL_CLUSTER_RULES } from './parse-virtual-cluster.ts';
import { ZONE_RULES } from './parse-zones.ts';
import type { Rule } from './rule.ts';
import { TokenStream } from './token-stream.ts';

/** Every beginning of a statement that is Atoll's own. What begins otherwise is Postgres's. */
export const RULES: readonly Rule[] = [
  ...VIRTUAL_CLUSTER_RULES,
  ...SETTING_RULES,
  ...ZONE_RULES,
  ...BACKUP_RULES,
  ...JOB_RULES,
  ...SCHEDULE_RULES,
  ...ALTER_BACKUP_RULES,
  ...CONNECTION_RULES,
  ...FILE_RULES,
  ...PRIVILEGE_RULES,
  ...ROLE_RULES,
  ...SYSTEM_TABLE_RULES,
  ...TABLE_EXCLUSION_RULES,
  ...SHOW_CREATE_RULES,
];

const RULES_BY_FIRST_WORD: ReadonlyMap<string | undefined, readonly Rule[]> = Map.groupBy(
  RULES,
  ({ words }) => words[0],
);

/**
 * Reads one statement; comments and a trailing `;` may surround it. Undefined when it is not one of ours: it goes to
 * Postgres untouched. The answer is frozen and may be shared.
 * @throws InputError `syntax`, with position and synopsis, when it is ours but malformed
 * @throws InputError `feature_not_supported` for a form of ours that is not there (yet, or any more)
 */
export function parseStatement(text: string): Located<Statement> | undefined {
  const stream = new TokenStream(text, { begin: 0, closer: ';' });
  const statement = parseFrom(stream);
  if (statement === undefined) return undefined;
  while (stream.acceptSymbol(';'));
  if (!stream.isEnd()) stream.fail();
  return statement;
}

/**
 * Reads the statement that begins at `begin` and ends before `closer`; undefined when it is not one of ours.
 * @throws InputError as `parseStatement`
 */
export function parseEnclosed(
  text: string,
  options: { readonly begin: number; readonly closer: ']' | ')' },
): Located<Statement> | undefined {
  return parseFrom(new TokenStream(text, options));
}

function parseFrom(stream: TokenStream): Located<Statement> | undefined {
  const found = RULES_BY_FIRST_WORD.get(stream.word())?.find((rule) => isBegunBy(stream, rule));
  if (found === undefined) return undefined;
  const { begin } = stream.peek();
  stream.describe(statementHelp[found.kind]);
  stream.acceptWords(...found.words);
  const node = found.parse(stream);
  const end = stream.lastEnd;
  if (!stream.isEnd()) stream.fail();
  return Object.freeze({ node: freeze(node), begin, end });
}

function isBegunBy(stream: TokenStream, { words, claims }: Rule): boolean {
  return stream.isWords(...words) && (claims === undefined || claims(stream, words.length));
}

function freeze<T>(node: T): T {
  if (typeof node === 'object' && node !== null) for (const child of Object.values(node)) freeze(child);
  return Object.freeze(node);
}
