export * from './ast.ts';
export * from './ast-privileges.ts';
export { helpFor, type StatementHelp, statementHelp } from './help.ts';
export { readToken, type Token, type TokenKind, type Unterminated } from './lexer.ts';
export { nameOf, stringOf } from './literals.ts';
export { mayBeOurs, mayBeOursBytes } from './may-be-ours.ts';
export {
  type OptionName,
  OPTIONS,
  type OptionShape,
  type OptionSpec,
  type OptionStatement,
  optionsOf,
  optionSpelling,
} from './options.ts';
export { parseStatement } from './parser.ts';
export { type PrintOptions, printStatement } from './printer.ts';
export { printZoneTarget } from './print-zones.ts';
export { changesPrivileges, withoutStrings } from './privilege-change.ts';
export { withoutExclusion } from './parse-table-exclusion.ts';
export { quoteName, quoteString } from './quote.ts';
export { POSTGRES_ROLE_OPTIONS, ROLE_PRIVILEGE_OPTIONS, rolePrivilegeOf } from './role-options.ts';
export { OBJECT_PRIVILEGES } from './parse-privileges.ts';
export { REDACTED, redactStatement, redactUri } from './redact.ts';
export { findRowSources, type FoundRowSource, highestPlaceholder } from './row-source.ts';
export { splitStatements } from './split.ts';
export { positionOf } from './token-stream.ts';
export { bindPlaceholders, isList, mapValues, type ValueMapper, type ValueRole } from './values.ts';
