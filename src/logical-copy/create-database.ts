import type { CopyDatabase } from './contract.ts';
import { quoted } from './session.ts';

/** As `pg_database` calls them. */
const PROVIDERS: Readonly<Record<string, string>> = { b: 'builtin', i: 'icu', c: 'libc' };
const LOCALE_WORDS: Readonly<Record<string, string>> = { b: 'BUILTIN_LOCALE', i: 'ICU_LOCALE' };

/** Makes an empty database that sorts and encodes as another; as the template does when it is null. */
export function createDatabaseSql(name: string, like: CopyDatabase | null): string {
  const made = `CREATE DATABASE ${quoted(name)} TEMPLATE template0`;
  if (like === null) return made;
  const { provider, locale, icuRules } = like;
  const localeWord = LOCALE_WORDS[provider];
  return [
    made,
    `ENCODING ${literal(like.encoding)}`,
    `LC_COLLATE ${literal(like.collate)} LC_CTYPE ${literal(like.ctype)}`,
    `LOCALE_PROVIDER ${PROVIDERS[provider] ?? 'libc'}`,
    localeWord === undefined || locale === null ? '' : `${localeWord} ${literal(locale)}`,
    icuRules === null ? '' : `ICU_RULES ${literal(icuRules)}`,
  ]
    .filter(Boolean)
    .join(' ');
}

function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
