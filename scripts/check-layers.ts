/**
 * Fails when an import points the wrong way, reaches past a folder's door, or a banned global is used outside the
 * composition root. Run by `npm run lint`; the table below is the one of docs/architecture.md.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '..');

/** Folders of one rank do not know each other; a folder may import from every lower rank. */
const RANKS: readonly (readonly string[])[] = [
  ['base'],
  ['pg', 'sql', 'blob', 'keys'],
  ['logical-copy', 'kms'],
  ['catalog', 'timeline', 'instance'],
  ['jobs', 'replication'],
  ['control'],
  ['frontdoor', 'http', 'cli'],
  ['daemon'],
];

/** Pairs of one rank, or against the direction, that are meant; each with its reason. */
const ALLOWED: Readonly<Record<string, string>> = {
  'blob>keys': 'drivers take credentials as opened keys',
  'cli>daemon': 'the command line starts the daemon: the two are one program',
};

const BANNED = [
  { pattern: /\bDate\.now\(/, what: 'Date.now' },
  { pattern: /\bnew Date\(\)/, what: 'new Date()' },
  { pattern: /\bMath\.random\(/, what: 'Math.random' },
  { pattern: /(?<![.\w])setTimeout\(/, what: 'setTimeout' },
  { pattern: /(?<![.\w])setInterval\(/, what: 'setInterval' },
];

function rankOf(folder: string): number {
  return RANKS.findIndex((rank) => rank.includes(folder));
}

function folderOf(path: string): string {
  return relative(join(ROOT, 'src'), path).split('/')[0] ?? '';
}

function problemsOf(path: string): string[] {
  const text = readFileSync(path, 'utf8');
  const here = folderOf(path);
  const problems: string[] = [];
  for (const match of text.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)) {
    const target = resolve(dirname(path), match[1] ?? '');
    const there = folderOf(target);
    if (there === here || !target.startsWith(join(ROOT, 'src'))) continue;
    const isTest = path.endsWith('.test.ts');
    if (!isTest && rankOf(there) >= rankOf(here) && ALLOWED[`${here}>${there}`] === undefined) {
      problems.push(`${here} must not import ${there}`);
    }
    if (!isTest && !target.endsWith('/index.ts'))
      problems.push(`reaches past the door of ${there}: ${match[1]}`);
  }
  const isRoot = here === 'daemon' || here === 'cli' || path.endsWith('.test.ts');
  const code = text.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '');
  if (!isRoot) {
    for (const { pattern, what } of BANNED) {
      if (pattern.test(code)) problems.push(`uses ${what}; take a Clock or an Rng`);
    }
  }
  if (rankOf(here) === -1) problems.push(`folder ${here} has no rank`);
  return problems.map((problem) => `${relative(ROOT, path)}: ${problem}`);
}

const files = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) =>
  name.endsWith('.ts'),
);
const problems = files.flatMap((name) => problemsOf(join(ROOT, 'src', name)));
for (const problem of problems) console.error(problem);
console.log(`layers: ${files.length} files, ${problems.length} problems`);
process.exitCode = problems.length === 0 ? 0 : 1;
