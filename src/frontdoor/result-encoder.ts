import { assert } from '../base/index.ts';
import type { Cell, Column, ColumnType, StatementResult } from '../control/index.ts';
import {
  BINARY_FORMAT,
  encodeRowDescription,
  type FormatCode,
  MessageWriter,
  protocolViolation,
  TEXT_FORMAT,
  TYPE_OID,
  writeDataRow,
  BACKEND,
} from '../pg/index.ts';
import { encodeBinary } from './binary-format.ts';

/** Bytes of a value of each type, as pg_type says; -1 when it varies. */
const TYPE_LENGTHS: Readonly<Record<ColumnType, number>> = {
  int8: 8,
  text: -1,
  bool: 1,
  float8: 8,
  numeric: -1,
  timestamptz: 8,
  interval: 16,
  bytea: -1,
  jsonb: -1,
};

/** The rows of a result, to be handed out in pieces. */
export type RowsResult = Extract<StatementResult, { kind: 'rows' }>;

/**
 * One format per column, from what Bind asked for: none means text, one holds for all.
 * @throws InputError `protocol_violation`
 */
export function formatsOf(columns: readonly Column[], asked: readonly FormatCode[]): readonly FormatCode[] {
  if (asked.length > 1 && asked.length !== columns.length) {
    throw protocolViolation(
      `bind message has ${asked.length} result formats but query has ${columns.length} columns`,
    );
  }
  return columns.map((_, at) => (asked.length === 1 ? asked[0] : asked[at]) ?? TEXT_FORMAT);
}

export function describeColumns(columns: readonly Column[], asked: readonly FormatCode[] = []): Buffer {
  const formats = formatsOf(columns, asked);
  return encodeRowDescription(
    columns.map(({ name, type }, at) => ({
      name,
      typeOid: TYPE_OID[type],
      typeLength: TYPE_LENGTHS[type],
      format: formats[at] ?? TEXT_FORMAT,
    })),
  );
}

/** Writes rows `[begin, end)` as DataRow messages. */
export function writeRows(
  writer: MessageWriter,
  result: RowsResult,
  options: { asked: readonly FormatCode[]; begin: number; end: number },
): void {
  const formats = formatsOf(result.columns, options.asked);
  for (const row of result.rows.slice(options.begin, options.end)) {
    assert(row.length === result.columns.length, 'a row has as many cells as there are columns');
    writeDataRow(
      writer,
      row.map((cell, at) => encodeCell(cell, result.columns[at], formats[at])),
    );
  }
}

function encodeCell(
  cell: Cell,
  column: Column | undefined,
  format: FormatCode | undefined,
): Buffer | string | null {
  if (cell === null || column === undefined || format !== BINARY_FORMAT) return cell;
  return encodeBinary(column.type, cell);
}

/** The whole answer of the simple protocol, but for ReadyForQuery. */
export function encodeResult(result: Exclude<StatementResult, { kind: 'in_session' }>): Buffer {
  const writer = new MessageWriter({ initialBytes: 4096 });
  if (result.kind === 'rows') {
    writer.bytes(describeColumns(result.columns));
    writeRows(writer, result, { asked: [], begin: 0, end: result.rows.length });
  }
  return writer.begin(BACKEND.commandComplete).cstring(result.tag).end().take();
}
