import { isNumericType, type ResultCell, type ResultColumn, type ResultFormatter } from './formatter.ts';

/** Types whose text form is JSON already. */
const JSON_TYPES: ReadonlySet<number> = new Set([114, 3802]);
const BOOLEAN_TYPE = 16;

/** Comma-separated values after RFC 4180, with a line of names. NULL is empty, an empty text is `""`. */
export function csvFormatter(): ResultFormatter {
  const line = (cells: readonly ResultCell[]) => `${cells.map(csvCell).join(',')}\n`;
  return {
    begin: (columns) => line(columns.map((column) => column.name)),
    row: line,
    end: () => '',
  };
}

function csvCell(cell: ResultCell): string {
  if (cell === null) return '';
  return cell === '' || /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

/** Tabulator-separated values with a line of names; escapes and `\N` as in Postgres's COPY. */
export function tsvFormatter(): ResultFormatter {
  const line = (cells: readonly ResultCell[]) => `${cells.map(tsvCell).join('\t')}\n`;
  return {
    begin: (columns) => line(columns.map((column) => column.name)),
    row: line,
    end: () => '',
  };
}

const TSV_ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' };

function tsvCell(cell: ResultCell): string {
  return cell === null
    ? '\\N'
    : cell.replace(/[\\\t\n\r]/g, (character) => TSV_ESCAPES[character] ?? character);
}

/** One JSON array of objects per result, a row a line. Numbers keep every digit; a repeated name gets a number. */
export function jsonFormatter(): ResultFormatter {
  let columns: readonly ResultColumn[] = [];
  let keys: readonly string[] = [];
  let count = 0;
  let isRows = false;
  return {
    begin(begun) {
      columns = begun;
      keys = distinctNames(begun.map((column) => column.name)).map((name) => JSON.stringify(name));
      count = 0;
      isRows = true;
      return '[';
    },
    row(cells) {
      count += 1;
      const members = cells.map(
        (cell, index) => `${keys[index]}:${jsonCell(cell, columns[index]?.typeId ?? 0)}`,
      );
      return `${count === 1 ? '' : ','}\n{${members.join(',')}}`;
    },
    end() {
      const wasRows = isRows;
      isRows = false;
      return wasRows ? `${count === 0 ? '' : '\n'}]\n` : '';
    },
  };
}

function jsonCell(cell: ResultCell, typeId: number): string {
  if (cell === null) return 'null';
  if (JSON_TYPES.has(typeId)) return cell.replace(/\r?\n/g, ' ');
  if (typeId === BOOLEAN_TYPE) return cell === 't' ? 'true' : 'false';
  if (isNumericType(typeId) && /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(cell)) return cell;
  return JSON.stringify(cell);
}

/** Makes names differ, for formats in which a name is a key. */
function distinctNames(names: readonly string[]): readonly string[] {
  const taken = new Set<string>();
  return names.map((name) => {
    let candidate = name;
    for (let number = 2; taken.has(candidate); number += 1) candidate = `${name}_${number}`;
    taken.add(candidate);
    return candidate;
  });
}

/** Every value with its length in bytes before it: for programs that must not misread anything. */
export function rawFormatter(): ResultFormatter {
  let count = 0;
  let isRows = false;
  return {
    begin(columns) {
      count = 0;
      isRows = true;
      return `# ${columns.length} ${columns.length === 1 ? 'column' : 'columns'}\n`;
    },
    row(cells) {
      count += 1;
      const values = cells.map((cell) =>
        cell === null ? '## NULL\n' : `## ${Buffer.byteLength(cell)}\n${cell}\n`,
      );
      return `# row ${count}\n${values.join('')}`;
    },
    end() {
      const wasRows = isRows;
      isRows = false;
      return wasRows ? `# ${count} ${count === 1 ? 'row' : 'rows'}\n` : '';
    },
  };
}
