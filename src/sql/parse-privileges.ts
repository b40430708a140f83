/** GRANT, REVOKE and their kin where Postgres has no word for the privilege; everything else goes to Postgres untouched. */
import type { Statement, TablePattern } from './ast.ts';
import type { NamedPrivilege, PrivilegeObject, RoleReference } from './ast-privileges.ts';
import { foldName } from './characters.ts';
import { readToken } from './lexer.ts';
import { parseList } from './parse-value.ts';
import { rule, type Rule } from './rule.ts';
import type { TokenStream } from './token-stream.ts';

/** Privileges on tables and databases that are ours. Unquoted: Postgres knows no privilege of such a name. */
export const OBJECT_PRIVILEGES: ReadonlySet<string> = new Set(['backup', 'restore']);

export const PRIVILEGE_RULES: readonly Rule[] = [
  rule('show system grants', 'show_system_grants', (stream) => ({
    kind: 'show_system_grants',
    grantees: parseFor(stream),
  })),
  rule('show grants', 'show_grants', parseShowGrants),
  rule('show roles', 'show_roles', () => ({ kind: 'show_roles' })),
  rule('show users', 'show_users', () => ({ kind: 'show_users' })),
  { ...rule('grant system', 'grant_system', parseGrantSystem), claims: isSystemPrivilege },
  { ...rule('revoke system', 'revoke_system', parseRevokeSystem), claims: isSystemPrivilege },
  ...['grant', 'admin'].map((word) => ({
    ...rule(`revoke ${word} option for system`, 'revoke_system', (stream) => ({
      ...parseRevokeSystem(stream),
      grantOptionFor: true,
    })),
    claims: isSystemPrivilege,
  })),
  {
    ...rule('revoke grant option for', 'revoke_on_object', (stream) => ({
      ...parseRevokeOnObject(stream),
      grantOptionFor: true,
    })),
    claims: namesPrivilegeOfOurs,
  },
  { ...rule('grant', 'grant_on_object', parseGrantOnObject), claims: namesPrivilegeOfOurs },
  { ...rule('revoke', 'revoke_on_object', parseRevokeOnObject), claims: namesPrivilegeOfOurs },
  {
    ...rule('alter default privileges', 'alter_default_privileges', parseDefaultPrivileges),
    claims: namesPrivilegeOfOurs,
  },
];

/** `GRANT SYSTEM BACKUP TO u` is ours; in `GRANT system TO u` and `GRANT system, x TO u` it is a role's name. */
function isSystemPrivilege(stream: TokenStream, ahead: number): boolean {
  if (stream.peek(ahead).kind === 'quoted_identifier') return true;
  const word = stream.word(ahead);
  return word !== undefined && !['to', 'from', 'on', 'granted', 'with'].includes(word);
}

/**
 * Whether a privilege of ours stands before ON, or an external connection behind it. Reads ahead without taking anything: from the word
 * GRANT or REVOKE on, which ALTER DEFAULT PRIVILEGES has behind other clauses.
 */
function namesPrivilegeOfOurs(stream: TokenStream): boolean {
  const { text } = stream;
  let isListed = false;
  let hasFound = false;
  let depth = 0;
  let previous = '';
  for (let at = stream.peek().begin; ; ) {
    const token = readToken(text, at);
    if (token.kind === 'end') return false;
    at = token.end;
    const source = text.slice(token.begin, token.end);
    if (token.kind === 'symbol') {
      if (source === '(') depth += 1;
      else if (source === ')') depth -= 1;
      else if (source === ';' || source === ']') return false;
      previous = source;
      continue;
    }
    const word = token.kind === 'identifier' && depth === 0 ? foldName(source) : '';
    if (word === 'grant' || word === 'revoke') isListed = true;
    else if (isListed && (word === 'to' || word === 'from')) return false;
    else if (isListed && word === 'on') return hasFound || isExternalConnection(text, at);
    else if (isListed && previous !== '.' && OBJECT_PRIVILEGES.has(word)) hasFound = true;
    previous = word;
  }
}

function isExternalConnection(text: string, from: number): boolean {
  const first = readToken(text, from);
  const second = readToken(text, first.end);
  const words = [first, second].map(({ begin, end }) => foldName(text.slice(begin, end)));
  return words.join(' ') === 'external connection';
}

type GrantSystem = Extract<Statement, { kind: 'grant_system' }>;
type RevokeSystem = Extract<Statement, { kind: 'revoke_system' }>;
type RevokeOnObject = Extract<Statement, { kind: 'revoke_on_object' }>;

function parseGrantSystem(stream: TokenStream): GrantSystem {
  const privileges = parseSystemPrivileges(stream);
  return { kind: 'grant_system', privileges, ...parseGranting(stream) };
}

function parseRevokeSystem(stream: TokenStream): RevokeSystem {
  const privileges = parseSystemPrivileges(stream);
  return { kind: 'revoke_system', privileges, grantOptionFor: false, ...parseRevoking(stream) };
}

/** `ALL` stands for every one and is kept as it was written. */
function parseSystemPrivileges(stream: TokenStream): readonly string[] {
  return parseList(stream, (list) => {
    const name = list.anyName();
    if (name === 'all') list.acceptWords('privileges');
    return name;
  });
}

function parseGrantOnObject(stream: TokenStream): Statement {
  const privileges = parseList(stream, parsePrivilege);
  stream.expectWords('on');
  return { kind: 'grant_on_object', privileges, object: parseObject(stream), ...parseGranting(stream) };
}

function parseRevokeOnObject(stream: TokenStream): RevokeOnObject {
  const privileges = parseList(stream, parsePrivilege);
  stream.expectWords('on');
  const object = parseObject(stream);
  return { kind: 'revoke_on_object', privileges, object, grantOptionFor: false, ...parseRevoking(stream) };
}

function parseDefaultPrivileges(stream: TokenStream): Statement {
  const creators: RoleReference[] = [];
  const schemas: string[] = [];
  for (;;) {
    if (stream.acceptWords('for')) {
      if (!stream.acceptWords('role')) stream.expectWords('user');
      creators.push(...parseList(stream, parseRole));
    } else if (stream.acceptWords('in')) {
      stream.expectWords('schema');
      schemas.push(...parseList(stream, (list) => list.name()));
    } else break;
  }
  const isGrant = stream.acceptWords('grant');
  if (!isGrant) stream.expectWords('revoke');
  const grantOptionFor = !isGrant && stream.acceptWords('grant', 'option', 'for');
  const privileges = parseList(stream, parsePrivilege);
  stream.expectWords('on', 'tables');
  const what = { creators, schemas, privileges };
  return {
    kind: 'alter_default_privileges',
    ...what,
    change: isGrant
      ? { kind: 'grant', ...parseGranting(stream) }
      : { kind: 'revoke', grantOptionFor, ...parseRevoking(stream) },
  };
}

function parsePrivilege(stream: TokenStream): NamedPrivilege {
  const name = stream.anyName();
  if (!stream.acceptSymbol('(')) return { name, columns: [] };
  const columns = parseList(stream, (list) => list.name());
  stream.expectSymbol(')');
  return { name, columns };
}

function parseShowGrants(stream: TokenStream): Statement {
  const object = stream.acceptWords('on') ? parseObject(stream) : undefined;
  return { kind: 'show_grants', object, grantees: parseFor(stream) };
}

function parseObject(stream: TokenStream): PrivilegeObject {
  const names = (): readonly string[] => parseList(stream, (list) => list.name());
  if (stream.acceptWords('database')) return { kind: 'databases', names: names() };
  if (stream.acceptWords('external', 'connection')) return { kind: 'external_connections', names: names() };
  if (stream.acceptWords('all', 'tables', 'in', 'schema')) {
    return { kind: 'tables_in_schemas', names: names() };
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

function parseGranting(stream: TokenStream): {
  readonly grantees: readonly RoleReference[];
  readonly withGrantOption: boolean;
} {
  stream.expectWords('to');
  const grantees = parseList(stream, parseRole);
  const withGrantOption = stream.acceptWords('with');
  if (withGrantOption) {
    if (!stream.acceptWords('admin')) stream.expectWords('grant');
    stream.expectWords('option');
  }
  return { grantees, withGrantOption };
}

function parseRevoking(stream: TokenStream): {
  readonly grantees: readonly RoleReference[];
  readonly cascade: boolean;
} {
  stream.expectWords('from');
  const grantees = parseList(stream, parseRole);
  const cascade = stream.acceptWords('cascade');
  if (!cascade) stream.acceptWords('restrict');
  return { grantees, cascade };
}

function parseFor(stream: TokenStream): readonly RoleReference[] {
  return stream.acceptWords('for') ? parseList(stream, parseRole) : [];
}

/** Words that stand for a role when they are not quoted. */
const ROLE_WORDS = ['current_role', 'current_user', 'session_user'] as const;

export function parseRole(stream: TokenStream): RoleReference {
  const kind = ROLE_WORDS.find((word) => stream.acceptWords(word));
  if (kind !== undefined) return { kind };
  const name = stream.name();
  // As in Postgres, quotes do not make a role of it.
  return name === 'public' ? { kind: 'public' } : { kind: 'role', name };
}
