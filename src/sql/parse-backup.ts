import type { BackupSelector, BackupTargets, RestoreTargets, Statement, TablePattern, Value } from './ast.ts';
import { parseOptions } from './parse-options.ts';
import { parseList, parseScalar, parseText, parseTexts } from './parse-value.ts';
import { rule, type Rule } from './rule.ts';
import type { TokenStream } from './token-stream.ts';

export const BACKUP_RULES: readonly Rule[] = [
  rule('backup', 'backup', parseBackup),
  rule('restore', 'restore', parseRestore),
  rule('show backups', 'show_backups', parseShowBackups),
  rule('show backup', 'show_backup', parseShowBackup),
];

/** Behind the rules of ALTER BACKUP SCHEDULE, whose words begin alike. */
export const ALTER_BACKUP_RULES: readonly Rule[] = [rule('alter backup', 'alter_backup', parseAlterBackup)];

function parseBackup(stream: TokenStream): Statement {
  refuseVirtualCluster(stream, 'BACKUP INTO');
  const targets = parseBackupTargets(stream);
  if (stream.isWords('to')) {
    stream.refuse(
      'BACKUP ... TO is not supported, use BACKUP ... INTO',
      "write BACKUP ... INTO 'collection URI'",
    );
  }
  stream.expectWords('into');
  const { appendTo, destination } = parseDestination(stream);
  const asOf = parseAsOf(stream);
  return { kind: 'backup', targets, appendTo, destination, asOf, options: parseOptions(stream, 'backup') };
}

/** `'uri'`, `('uri', ...)`, or either after `LATEST IN` or `'subdirectory' IN`. */
function parseDestination(stream: TokenStream): {
  readonly appendTo: BackupSelector | undefined;
  readonly destination: readonly Value[];
} {
  if (stream.isSymbol('(')) return { appendTo: undefined, destination: parseTexts(stream) };
  if (!stream.isWords('latest')) {
    const text = parseText(stream);
    if (!stream.acceptWords('in')) return { appendTo: undefined, destination: [text] };
    return { appendTo: selectorOf(text), destination: parseTexts(stream) };
  }
  const appendTo = parseSelector(stream);
  stream.expectWords('in');
  return { appendTo, destination: parseTexts(stream) };
}

function parseRestore(stream: TokenStream): Statement {
  refuseVirtualCluster(stream, 'RESTORE FROM ... IN');
  const targets = stream.isWords('from') ? WHOLE : parseRestoreTargets(stream);
  stream.expectWords('from');
  const from = parseSelectorIn(stream, {
    message: 'RESTORE FROM a URI is not supported, use RESTORE ... FROM ... IN',
    hint: "write RESTORE ... FROM LATEST IN 'collection URI'",
  });
  const source = parseTexts(stream);
  const asOf = parseAsOf(stream);
  return { kind: 'restore', targets, from, source, asOf, options: parseOptions(stream, 'restore') };
}

function parseAlterBackup(stream: TokenStream): Statement {
  const from = parseSelector(stream);
  stream.expectWords('in');
  const collection = parseTexts(stream);
  stream.expectWords('add', 'new_kms');
  stream.expectSymbol('=');
  const newKms = parseTexts(stream);
  stream.expectWords('with', 'old_kms');
  stream.expectSymbol('=');
  return { kind: 'alter_backup', from, collection, newKms, oldKms: parseTexts(stream) };
}

function parseShowBackups(stream: TokenStream): Statement {
  stream.expectWords('in');
  return { kind: 'show_backups', collection: parseTexts(stream) };
}

const VARIANTS = ['schemas', 'files', 'ranges'] as const;

function parseShowBackup(stream: TokenStream): Statement {
  const variant = VARIANTS.find((word) => stream.acceptWords(word)) ?? 'default';
  stream.acceptWords('from');
  const from = parseSelectorIn(stream, {
    message: 'SHOW BACKUP of a URI is not supported, use SHOW BACKUP ... IN',
    hint: "write SHOW BACKUP FROM LATEST IN 'collection URI', or SHOW BACKUPS IN 'collection URI'",
  });
  const collection = parseTexts(stream);
  return { kind: 'show_backup', variant, from, collection, options: parseOptions(stream, 'show_backup') };
}

/** `LATEST IN` or `'subdirectory' IN`; a URI in its place is the form of old versions. */
function parseSelectorIn(
  stream: TokenStream,
  oldForm: { readonly message: string; readonly hint: string },
): BackupSelector {
  if (stream.isSymbol('(')) stream.refuse(oldForm.message, oldForm.hint);
  const isLatest = stream.isWords('latest');
  const selector = parseSelector(stream);
  const isOldForm = stream.isEnd() || stream.isSymbol(',') || stream.isWords('as') || stream.isWords('with');
  if (!isLatest && isOldForm) stream.refuse(oldForm.message, oldForm.hint);
  stream.expectWords('in');
  return selector;
}

function parseSelector(stream: TokenStream): BackupSelector {
  return stream.acceptWords('latest') ? { kind: 'latest' } : selectorOf(parseText(stream));
}

/** `'latest'` as a string means the same as the word. */
export function selectorOf(path: Value): BackupSelector {
  const isLatest = path.kind === 'string' && path.value.toLowerCase() === 'latest';
  return isLatest ? { kind: 'latest' } : { kind: 'subdirectory', path };
}

/** `AS OF SYSTEM TIME` and what follows, when it stands here. */
export function parseAsOf(stream: TokenStream): Value | undefined {
  if (!stream.acceptWords('as')) return undefined;
  stream.expectWords('of', 'system', 'time');
  return parseScalar(stream);
}

/** What stands before INTO. */
export function parseBackupTargets(stream: TokenStream): BackupTargets {
  return stream.isWords('into') || stream.isWords('to') ? WHOLE : parseTargets(stream);
}

const WHOLE: BackupTargets = { kind: 'virtual_cluster' };

function parseRestoreTargets(stream: TokenStream): RestoreTargets {
  return stream.acceptWords('system', 'users') ? { kind: 'system_users' } : parseTargets(stream);
}

function parseTargets(stream: TokenStream): BackupTargets {
  if (stream.acceptWords('database')) {
    return { kind: 'databases', names: parseList(stream, (list) => list.name()) };
  }
  stream.acceptWords('table');
  return { kind: 'tables', patterns: parseList(stream, parsePattern) };
}

function parsePattern(stream: TokenStream): TablePattern {
  const names: string[] = [];
  do {
    if (stream.acceptSymbol('*')) return { qualifiers: names, name: undefined };
    names.push(names.length === 0 ? stream.name() : stream.anyName());
  } while (names.length < 3 && stream.acceptSymbol('.'));
  return { qualifiers: names.slice(0, -1), name: names.at(-1) };
}

function refuseVirtualCluster(stream: TokenStream, form: string): void {
  if (!stream.isWords('virtual', 'cluster')) return;
  stream.refuse(
    'naming a virtual cluster to back up or restore is not supported',
    `connect to that virtual cluster and run ${form}`,
  );
}
