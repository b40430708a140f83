import type { Flag, FlagSet } from './flag.ts';

const INDENT = 6;
const WIDTH = 100;

/** The part of a command's help that lists its flags. */
export function formatFlagHelp(flags: FlagSet): string {
  return Object.values(flags).map(formatFlag).join('');
}

function formatFlag(flag: Flag<unknown>): string {
  const short = flag.short === undefined ? '    ' : `-${flag.short}, `;
  const value = flag.placeholder === undefined ? '' : ` ${flag.placeholder}`;
  const notes = [
    flag.defaultText === undefined ? undefined : `default ${flag.defaultText}`,
    flag.variable === undefined ? undefined : `environment ${flag.variable}`,
  ].filter((note) => note !== undefined);
  const help = wrap(flag.help, INDENT + 4);
  return `  ${short}--${flag.name}${value}\n${help}${notes.length === 0 ? '' : wrap(`[${notes.join('; ')}]`, INDENT + 4)}`;
}

/** Breaks a text into lines of at most 100 columns, each indented. */
export function wrap(text: string, indent: number): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && indent + line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = word;
    } else {
      line = line === '' ? word : `${line} ${word}`;
    }
  }
  lines.push(line);
  return lines.map((each) => `${' '.repeat(indent)}${each}\n`).join('');
}
