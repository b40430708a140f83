import type { FileUploadAction, Statement } from './ast.ts';
import { printValue } from './print-parts.ts';

type FileStatement = Extract<
  Statement,
  { kind: 'create_file_upload' | 'alter_file_upload' | 'drop_file' | 'show_files' | 'show_file' }
>;

export function printFileStatement(statement: FileStatement): string {
  switch (statement.kind) {
    case 'create_file_upload':
      return `CREATE FILE UPLOAD INTO ${printValue(statement.uri)}`;
    case 'alter_file_upload':
      return `ALTER FILE UPLOAD ${printValue(statement.uploadId)} ${printAction(statement.action)}`;
    case 'drop_file':
      return `DROP FILE ${printValue(statement.uri)}`;
    case 'show_files':
      return `SHOW FILES IN ${printValue(statement.uri)}`;
    case 'show_file':
      return `SHOW FILE ${printValue(statement.uri)} AT ${printValue(statement.offset)}`;
  }
}

function printAction(action: FileUploadAction): string {
  switch (action.kind) {
    case 'append':
      return `APPEND ${printValue(action.content)} AT ${printValue(action.offset)}`;
    case 'finish':
      return `FINISH WITH CHECKSUM ${printValue(action.checksum)}`;
    case 'cancel':
      return 'CANCEL';
  }
}
