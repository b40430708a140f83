/** CREATE ROLE and ALTER ROLE with options of ours; without one they are Postgres's. */
import type { Statement } from './ast.ts';
import type { RoleOption, RoleReference } from './ast-privileges.ts';
import { foldName } from './characters.ts';
import { readToken } from './lexer.ts';
import { parseRole } from './parse-privileges.ts';
import { parseList, parseValue } from './parse-value.ts';
import { POSTGRES_ROLE_OPTIONS, rolePrivilegeOf } from './role-options.ts';
import { rule, type Rule } from './rule.ts';
import type { TokenStream } from './token-stream.ts';

export const ROLE_RULES: readonly Rule[] = ['role', 'user'].flatMap((word) => {
  const isUser = word === 'user';
  return [
    {
      ...rule(`create ${word}`, 'create_role', (stream) => parseCreate(stream, isUser)),
      claims: hasOptionOfOurs,
    },
    {
      ...rule(`alter ${word}`, 'alter_role', (stream) => parseAlter(stream, isUser)),
      claims: hasOptionOfOurs,
    },
  ];
});

/** Words before a list of role names, in which a word of ours would be a name. */
const LISTS: ReadonlySet<string> = new Set(['role', 'group', 'user', 'admin', ',']);

/** Whether a word of ours stands where an option could, behind the role's name. */
function hasOptionOfOurs(stream: TokenStream, ahead: number): boolean {
  const { text } = stream;
  let at = stream.peek(ahead).end;
  for (let previous = ''; ; ) {
    const token = readToken(text, at);
    const source = text.slice(token.begin, token.end);
    if (token.kind === 'end' || source === ';' || source === ']') return false;
    const word = token.kind === 'identifier' ? foldName(source) : source;
    if (token.kind === 'identifier' && !LISTS.has(previous) && rolePrivilegeOf(word) !== undefined) {
      return true;
    }
    previous = word;
    at = token.end;
  }
}

function parseCreate(stream: TokenStream, isUser: boolean): Statement {
  return { kind: 'create_role', isUser, name: stream.name(), options: parseOptions(stream) };
}

function parseAlter(stream: TokenStream, isUser: boolean): Statement {
  const role: RoleReference = parseRole(stream);
  return { kind: 'alter_role', isUser, role, options: parseOptions(stream) };
}

function parseOptions(stream: TokenStream): readonly RoleOption[] {
  stream.acceptWords('with');
  const options: RoleOption[] = [];
  while (!stream.isEnd()) options.push(parseOption(stream));
  return options;
}

function parseOption(stream: TokenStream): RoleOption {
  const word = stream.word() ?? stream.fail();
  if (rolePrivilegeOf(word) !== undefined) {
    stream.next();
    return { name: word, argument: undefined };
  }
  const found = Object.entries(POSTGRES_ROLE_OPTIONS).find(([name]) =>
    stream.acceptWords(...name.split(' ')),
  );
  if (found === undefined) return stream.fail();
  const [name, shape] = found;
  switch (shape) {
    case 'nothing':
      return { name, argument: undefined };
    case 'names':
      return { name, argument: parseList(stream, (list) => list.name()) };
    case 'value':
    case 'secret':
      return { name, argument: parseValue(stream) };
  }
}
