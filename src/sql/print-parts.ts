/** What printers of several statements share. */
import type { Option, RestoreTargets, TablePattern, Value } from './ast.ts';
import { optionSpelling } from './options.ts';
import { quoteName, quoteString } from './quote.ts';
import { isList } from './values.ts';

/** Joins what is there by single blanks. */
export function words(...parts: readonly (string | false | undefined)[]): string {
  return parts.filter((part) => part !== false && part !== undefined && part !== '').join(' ');
}

export function printTargets(targets: RestoreTargets): string | undefined {
  switch (targets.kind) {
    case 'virtual_cluster':
      return undefined;
    case 'system_users':
      return 'SYSTEM USERS';
    case 'databases':
      return `DATABASE ${targets.names.map(quoteName).join(', ')}`;
    case 'tables':
      return `TABLE ${targets.patterns.map(printPattern).join(', ')}`;
  }
}

export function printPattern(pattern: TablePattern): string {
  const last = pattern.name === undefined ? '*' : quoteName(pattern.name);
  return [...pattern.qualifiers.map(quoteName), last].join('.');
}

export function printOptions(options: readonly Option[]): string | undefined {
  return options.length === 0 ? undefined : `WITH OPTIONS (${options.map(printOption).join(', ')})`;
}

export function printOption({ name, value }: Option): string {
  const spelling = optionSpelling(name);
  if (value === undefined) return spelling;
  return `${spelling} = ${isList(value) ? printTexts(value) : printValue(value)}`;
}

export function printTexts(values: readonly Value[]): string {
  const texts = values.map(printValue);
  return texts.length === 1 ? (texts[0] ?? '') : `(${texts.join(', ')})`;
}

export function printValue(value: Value): string {
  switch (value.kind) {
    case 'string':
      return quoteString(value.value);
    case 'number':
      return value.text;
    case 'boolean':
      return value.value ? 'true' : 'false';
    case 'null':
      return 'NULL';
    case 'identifier':
      return quoteName(value.name);
    case 'placeholder':
      return `$${value.number}`;
  }
}

export function printAssignment(assignment: {
  readonly name: string;
  readonly value: Value | 'default';
}): string {
  const value = assignment.value === 'default' ? 'DEFAULT' : printValue(assignment.value);
  return `${printSettingName(assignment.name)} = ${value}`;
}

/** Dots part a setting's name; a name that would not survive being taken apart is quoted as a whole. */
export function printSettingName(name: string): string {
  const parts = name.split('.');
  return parts.includes('') ? quoteName(name) : parts.map(quoteName).join('.');
}
