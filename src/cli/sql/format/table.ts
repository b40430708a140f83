import {
  isNumericType,
  type ResultCell,
  type ResultColumn,
  type ResultEnd,
  type ResultFormatter,
} from './formatter.ts';
import { displayLines, displayWidth, pad } from './width.ts';

/** Rows that are looked at before the widths of the columns are fixed; longer results are then shown as they come. */
export const MEASURED_ROWS_MAX = 1000;

export interface TableOptions {
  /** Stands for NULL. */
  readonly nullText: string;
  /** Printed above, centred, as the shell's descriptions have it. */
  readonly title?: string;
  /** Whether `(2 rows)` follows. */
  readonly hasFooter: boolean;
}

/** The aligned table of Postgres's shell. Results of any length pass in bounded memory. */
export class TableFormatter implements ResultFormatter {
  readonly #options: TableOptions;
  #columns: readonly ResultColumn[] | undefined;
  #widths: number[] = [];
  #waiting: (readonly (readonly string[])[])[] = [];
  #isMeasured = false;
  #count = 0;

  constructor(options: TableOptions) {
    this.#options = options;
  }

  begin(columns: readonly ResultColumn[]): string {
    this.#columns = columns;
    this.#widths = columns.map((column) => Math.max(...displayLines(column.name).map(displayWidth)));
    this.#waiting = [];
    this.#isMeasured = false;
    this.#count = 0;
    return '';
  }

  row(cells: readonly ResultCell[]): string {
    this.#count += 1;
    const lines = cells.map((cell) => displayLines(cell ?? this.#options.nullText));
    if (this.#isMeasured) return this.#formatRow(lines);
    this.#waiting.push(lines);
    return this.#waiting.length < MEASURED_ROWS_MAX ? '' : this.#flush();
  }

  end({ tag }: ResultEnd): string {
    if (this.#columns === undefined) return `${tag}\n`;
    const body = this.#isMeasured ? '' : this.#flush();
    const footer = this.#options.hasFooter ? `(${this.#count} ${this.#count === 1 ? 'row' : 'rows'})\n` : '';
    this.#columns = undefined;
    return body + footer;
  }

  #flush(): string {
    this.#isMeasured = true;
    const columns = this.#columns ?? [];
    for (const row of this.#waiting) {
      row.forEach((lines, index) => {
        this.#widths[index] = Math.max(this.#widths[index] ?? 0, ...lines.map(displayWidth));
      });
    }
    const names = columns.map((column) => displayLines(column.name).join(' '));
    const header = names.map(
      (name, index) => ` ${pad(name, { width: this.#widths[index] ?? 0, side: 'centre' })} `,
    );
    const rule = columns.map((_, index) => '-'.repeat((this.#widths[index] ?? 0) + 2)).join('+');
    const title =
      this.#options.title === undefined
        ? ''
        : `${pad(this.#options.title, { width: rule.length, side: 'centre' }).trimEnd()}\n`;
    const rows = this.#waiting.map((row) => this.#formatRow(row)).join('');
    this.#waiting = [];
    return `${title}${header.join('|').trimEnd()}\n${rule}\n${rows}`;
  }

  /** A row of as many lines as its tallest value has; `+` marks a value that goes on below. */
  #formatRow(row: readonly (readonly string[])[]): string {
    const height = Math.max(1, ...row.map((lines) => lines.length));
    let text = '';
    for (let line = 0; line < height; line += 1) {
      const cells = row.map((lines, index) => {
        const side = isNumericType(this.#columns?.[index]?.typeId ?? 0) ? 'left' : 'right';
        const shown = pad(lines[line] ?? '', { width: this.#widths[index] ?? 0, side });
        return ` ${shown}${line < lines.length - 1 ? '+' : ' '}`;
      });
      text += `${cells.join('|').trimEnd()}\n`;
    }
    return text;
  }
}
