import { csvFormatter, jsonFormatter, rawFormatter, tsvFormatter } from './data.ts';
import type { FormatName, ResultFormatter } from './formatter.ts';
import { RecordsFormatter } from './records.ts';
import { TableFormatter } from './table.ts';

export {
  FORMATS,
  type FormatName,
  type ResultCell,
  type ResultColumn,
  type ResultFormatter,
} from './formatter.ts';
export { TableFormatter } from './table.ts';

/** How NULL is shown to people; the formats for programs have their own ways. */
export const NULL_TEXT = 'NULL';

/** A fresh formatter for one result after another. */
export function createFormatter(name: FormatName): ResultFormatter {
  switch (name) {
    case 'table':
      return new TableFormatter({ nullText: NULL_TEXT, hasFooter: true });
    case 'records':
      return new RecordsFormatter({ nullText: NULL_TEXT });
    case 'csv':
      return csvFormatter();
    case 'tsv':
      return tsvFormatter();
    case 'json':
      return jsonFormatter();
    case 'raw':
      return rawFormatter();
  }
}
