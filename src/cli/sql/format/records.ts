import type { ResultCell, ResultColumn, ResultEnd, ResultFormatter } from './formatter.ts';
import { displayLines, displayWidth, pad } from './width.ts';

/** One block per row, one line per column: for wide rows. */
export class RecordsFormatter implements ResultFormatter {
  readonly #nullText: string;
  #names: readonly string[] | undefined;
  #width = 0;
  #count = 0;

  constructor(options: { nullText: string }) {
    this.#nullText = options.nullText;
  }

  begin(columns: readonly ResultColumn[]): string {
    this.#names = columns.map((column) => displayLines(column.name).join(' '));
    this.#width = Math.max(0, ...this.#names.map(displayWidth));
    this.#count = 0;
    return '';
  }

  row(cells: readonly ResultCell[]): string {
    this.#count += 1;
    const names = this.#names ?? [];
    const lines = cells.flatMap((cell, index) =>
      displayLines(cell ?? this.#nullText).map((line, at) => {
        const name = pad(at === 0 ? (names[index] ?? '') : '', { width: this.#width, side: 'right' });
        return `${name} ${at === 0 ? '|' : '+'} ${line}`.trimEnd();
      }),
    );
    return `-[ RECORD ${this.#count} ]\n${lines.map((line) => `${line}\n`).join('')}`;
  }

  end({ tag }: ResultEnd): string {
    const isRows = this.#names !== undefined;
    this.#names = undefined;
    if (!isRows) return `${tag}\n`;
    return this.#count === 0 ? '(0 rows)\n' : '';
  }
}
