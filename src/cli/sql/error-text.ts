import pg from 'pg';
import { AppError } from '../../base/index.ts';
import type { NoticeLike } from './session.ts';

/**
 * An error as the shell shows it: `ERROR: message`, then what else is known, each on its own line. With the statement's
 * text, the place is pointed at.
 */
export function formatError(error: unknown, statement?: string): string {
  if (error instanceof pg.DatabaseError) {
    const position = Number(error.position);
    const place = statement === undefined || !(position > 0) ? [] : pointAt(statement, position);
    return join([
      `${error.severity ?? 'ERROR'}: ${error.message}`,
      ...place,
      field('SQLSTATE', error.code),
      field('DETAIL', error.detail),
      field('HINT', error.hint),
      field('CONTEXT', error.where),
    ]);
  }
  if (error instanceof AppError) {
    return join([
      `ERROR: ${error.message}`,
      field('SQLSTATE', error.sqlstate),
      field('DETAIL', error.detail),
      field('HINT', error.hint),
    ]);
  }
  return `ERROR: ${error instanceof Error ? error.message : String(error)}\n`;
}

/** A notice or warning as the shell shows it. */
export function formatNotice(notice: NoticeLike): string {
  return join([
    `${notice.severity ?? 'NOTICE'}: ${notice.message ?? ''}`,
    field('DETAIL', notice.detail),
    field('HINT', notice.hint),
  ]);
}

/** `LINE 2: ...` and a caret under the character. Positions count characters from 1. */
function pointAt(statement: string, position: number): string[] {
  const before = Array.from(statement)
    .slice(0, position - 1)
    .join('');
  const lineNumber = before.split('\n').length;
  const line = statement.split('\n')[lineNumber - 1] ?? '';
  const column = Array.from(before.split('\n').at(-1) ?? '').length;
  const window = excerpt(Array.from(line), column);
  const prefix = `LINE ${lineNumber}: `;
  return [`${prefix}${window.text}`, `${' '.repeat(prefix.length + window.column)}^`];
}

const LINE_SHOWN_MAX = 80;

/** The part of a long line around a column. */
function excerpt(line: readonly string[], column: number): { text: string; column: number } {
  const shown = (characters: readonly string[]) => characters.join('').replaceAll(/\s/g, ' ');
  if (line.length <= LINE_SHOWN_MAX) return { text: shown(line), column };
  const begin = Math.max(0, Math.min(column - LINE_SHOWN_MAX / 2, line.length - LINE_SHOWN_MAX));
  const end = begin + LINE_SHOWN_MAX;
  const head = begin > 0 ? '...' : '';
  const tail = end < line.length ? '...' : '';
  return { text: `${head}${shown(line.slice(begin, end))}${tail}`, column: column - begin + head.length };
}

function field(name: string, value: string | undefined): string | undefined {
  return value === undefined ? undefined : `${name}: ${value}`;
}

function join(lines: readonly (string | undefined)[]): string {
  return lines
    .filter((line) => line !== undefined)
    .map((line) => `${line}\n`)
    .join('');
}
