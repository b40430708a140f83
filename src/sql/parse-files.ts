import type { FileUploadAction } from './ast.ts';
import { parseScalar, parseText } from './parse-value.ts';
import { rule, type Rule } from './rule.ts';
import type { TokenStream } from './token-stream.ts';

export const FILE_RULES: readonly Rule[] = [
  rule('create file upload', 'create_file_upload', (stream) => {
    stream.expectWords('into');
    return { kind: 'create_file_upload', uri: parseText(stream) };
  }),
  rule('alter file upload', 'alter_file_upload', (stream) => ({
    kind: 'alter_file_upload',
    uploadId: parseText(stream),
    action: parseAction(stream),
  })),
  rule('drop file', 'drop_file', (stream) => ({ kind: 'drop_file', uri: parseText(stream) })),
  rule('show files', 'show_files', (stream) => {
    stream.expectWords('in');
    return { kind: 'show_files', uri: parseText(stream) };
  }),
  rule('show file', 'show_file', (stream) => {
    const uri = parseText(stream);
    stream.expectWords('at');
    return { kind: 'show_file', uri, offset: parseScalar(stream) };
  }),
];

function parseAction(stream: TokenStream): FileUploadAction {
  if (stream.acceptWords('cancel')) return { kind: 'cancel' };
  if (stream.acceptWords('finish', 'with', 'checksum'))
    return { kind: 'finish', checksum: parseText(stream) };
  stream.expectWords('append');
  const content = parseText(stream);
  stream.expectWords('at');
  return { kind: 'append', content, offset: parseScalar(stream) };
}
