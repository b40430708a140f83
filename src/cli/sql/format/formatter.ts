/** A column of a result, as its formatter sees it. */
export interface ResultColumn {
  readonly name: string;
  /** Postgres's number of the type. */
  readonly typeId: number;
}

export type ResultCell = string | null;

/** What a result ended with. */
export interface ResultEnd {
  /** CommandComplete tag, e.g. `SELECT 2`. */
  readonly tag: string;
}

/** Turns one result into text, piece by piece: what is returned is to be written at once, and may be empty. */
export interface ResultFormatter {
  begin(columns: readonly ResultColumn[]): string;
  row(cells: readonly ResultCell[]): string;
  /** Called once, also for statements that return no rows, then without `begin`. */
  end(end: ResultEnd): string;
}

export const FORMATS = ['table', 'records', 'csv', 'tsv', 'json', 'raw'] as const;
export type FormatName = (typeof FORMATS)[number];

/** Types whose values are numbers: int8, int2, int4, oid, float4, float8, money, numeric. */
const NUMERIC_TYPES: ReadonlySet<number> = new Set([20, 21, 23, 26, 700, 701, 790, 1700]);

export function isNumericType(typeId: number): boolean {
  return NUMERIC_TYPES.has(typeId);
}
