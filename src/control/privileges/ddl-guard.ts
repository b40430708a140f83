/**
 * Keeps people from creating objects in the system VC by mistake while `sql.restrict_system_interface.enabled` is on: an aid against a
 * wrong connection string, not a wall against an admin, who can switch it off. docs/decisions/0012-system-interface-guard.md
 */
import { InputError } from '../../base/index.ts';
import { readToken, splitStatements } from '../../sql/index.ts';

/** Creating and altering is a sign of work that belongs elsewhere. DROP is how a mistake is cleaned up, and stays. */
const CREATING: ReadonlySet<string> = new Set(['create', 'alter', 'import']);
/** Who may connect is the business of the system VC. */
const ALLOWED_OBJECTS: ReadonlySet<string> = new Set(['role', 'group', 'user']);

/** @throws InputError `insufficient_privilege` when one of the statements of the text creates or alters an object */
export function refuseCreation(text: string): void {
  for (const statement of splitStatements(text)) {
    if (!createsObject(statement.node)) continue;
    throw new InputError('insufficient_privilege', 'blocked DDL from the system interface', {
      hint: 'Object creation blocked via sql.restrict_system_interface.enabled to prevent likely user errors.\nTry running the DDL from a virtual cluster instead.',
    });
  }
}

function createsObject(statement: string): boolean {
  const words = wordsOf(statement);
  const first = words.next().value;
  if (first === undefined) return false;
  if (CREATING.has(first)) {
    const second = words.next().value ?? '';
    // CREATE USER MAPPING makes an object; CREATE USER does not.
    return !ALLOWED_OBJECTS.has(second) || (second === 'user' && words.next().value === 'mapping');
  }
  return (first === 'select' || first === 'with') && selectsInto(words);
}

/** `SELECT ... INTO table` creates one; the INTO of an INSERT or MERGE in a WITH does not. */
function selectsInto(words: Iterable<string>): boolean {
  let previous = '';
  for (const word of words) {
    if (word === 'into' && previous !== 'insert' && previous !== 'merge') return true;
    previous = word;
  }
  return false;
}

/** The unquoted words of a statement, in lower case. */
function* wordsOf(statement: string): Generator<string, undefined> {
  for (let at = 0; ; ) {
    const token = readToken(statement, at);
    if (token.kind === 'end') return undefined;
    if (token.kind === 'identifier') yield statement.slice(token.begin, token.end).toLowerCase();
    at = token.end;
  }
}
