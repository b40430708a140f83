import { CorruptError } from '../../base/index.ts';

/** What a source of input has next. */
export type Input =
  | { readonly kind: 'line'; readonly text: string; readonly bytes: Uint8Array }
  /** The user gave up the line. */
  | { readonly kind: 'interrupted' }
  | { readonly kind: 'end' };

/** Lines of a terminal, a file or a pipe, one at a time. */
export interface LineSource {
  /** A person types: what is unfinished at the end was given up. */
  readonly isTerminal: boolean;
  /** Without its line break. The prompt is shown by terminals only. */
  next(prompt: string): Promise<Input>;
}

/** Longest line of a script; a line is held in memory. */
const LINE_BYTES_MAX = 512 * 1024 * 1024;
const NEWLINE = 0x0a;

/** The lines of a stream of bytes. Their text is UTF-8; what is not makes `text` throw nothing but show U+FFFD. */
export function streamLines(stream: AsyncIterable<Uint8Array | string>): LineSource & AsyncDisposable {
  const lines = splitLines(stream);
  return {
    isTerminal: false,
    async next() {
      const { done, value } = await lines.next();
      return done === true
        ? { kind: 'end' }
        : { kind: 'line', text: Buffer.from(value).toString('utf8'), bytes: value };
    },
    async [Symbol.asyncDispose]() {
      await lines.return(undefined);
    },
  };
}

async function* splitLines(
  stream: AsyncIterable<Uint8Array | string>,
): AsyncGenerator<Uint8Array, undefined> {
  let parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of stream) {
    const buffer = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    let begin = 0;
    for (let end = buffer.indexOf(NEWLINE); end !== -1; end = buffer.indexOf(NEWLINE, begin)) {
      parts.push(buffer.subarray(begin, end));
      yield Buffer.concat(parts);
      parts = [];
      bytes = 0;
      begin = end + 1;
    }
    if (begin === buffer.length) continue;
    parts.push(buffer.subarray(begin));
    bytes += buffer.length - begin;
    if (bytes > LINE_BYTES_MAX) throw new CorruptError(`a line is longer than ${LINE_BYTES_MAX} bytes`);
  }
  if (bytes > 0) yield Buffer.concat(parts);
  return undefined;
}

/** The data lines after `COPY ... FROM STDIN`, up to the line `\.` or the end of the input. */
export async function* copyData(source: LineSource, prompt: string): AsyncGenerator<Uint8Array, undefined> {
  for (;;) {
    const input = await source.next(prompt);
    if (input.kind === 'interrupted') throw new Error('canceled by user');
    if (input.kind === 'end' || input.text === '\\.' || input.text === '\\.\r') return undefined;
    yield Buffer.concat([input.bytes, LINE_BREAK]);
  }
}

const LINE_BREAK = Buffer.from('\n');
