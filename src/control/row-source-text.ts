/** Rows of a statement of ours as a table of a query of Postgres's. */
import type { Cell, Column, StatementResult } from './contract.ts';

type RowsResult = Extract<StatementResult, { kind: 'rows' }>;

/** A derived table over a JSON value, an expression; with `alias`, under that name. */
export function derivedTable(
  columns: readonly Column[],
  { value, alias }: { readonly value: string; readonly alias: string | undefined },
): string {
  const definitions = columns.map(({ name, type }) => `${quotedName(name)} pg_catalog.${type}`).join(', ');
  const table = `(SELECT * FROM pg_catalog.jsonb_to_recordset(${value}::pg_catalog.jsonb) AS "rows"(${definitions}))`;
  return alias === undefined ? table : `${table} AS ${quotedName(alias)}`;
}

function quotedName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** Rows as a JSON array of objects; values are in Postgres's text form, which `jsonb_to_recordset` casts to the column's type. */
export function rowsToJson(result: RowsResult): string {
  const keys = result.columns.map(({ name }) => JSON.stringify(name));
  const rows = result.rows.map((row) => {
    const members = row.map((cell, at) => `${keys[at]}:${cellToJson(cell, result.columns[at])}`);
    return `{${members.join(',')}}`;
  });
  return `[${rows.join(',')}]`;
}

function cellToJson(cell: Cell, column: Column | undefined): string {
  if (cell === null) return 'null';
  // JSON goes in as it is: in quotes it would become a JSON string.
  return column?.type === 'jsonb' ? cell : JSON.stringify(cell.replaceAll('\0', ''));
}
