import { InputError } from '../base/index.ts';
import type { Command, CommandContext } from './command.ts';
import { closest } from './flags/suggest.ts';
import { reportError } from './report-error.ts';

/** A command as it is listed, before its code is loaded. */
export interface CommandEntry {
  readonly name: string;
  /** One line, lower case, no full stop. */
  readonly summary: string;
  load(): Promise<Command>;
}

/** Runs one of the commands. Resolves with the exit code; whatever goes wrong is told on standard error. */
export async function runProgram(
  commands: readonly CommandEntry[],
  context: CommandContext,
): Promise<number> {
  try {
    const [name, ...argv] = context.argv;
    if (name === undefined || name === '--help' || name === '-h' || (name === 'help' && argv.length === 0)) {
      context.stdout.write(formatHelp(commands));
      return name === undefined ? 64 : 0;
    }
    if (name === 'help') return await runProgram(commands, { ...context, argv: [...argv, '--help'] });
    const wanted = name === '--version' ? 'version' : name;
    const command = commands.find((each) => each.name === wanted);
    if (command === undefined) throw unknownCommand(name, commands);
    return await (await command.load()).start({ ...context, argv });
  } catch (error) {
    return reportError(error, context.stderr);
  }
}

function unknownCommand(name: string, commands: readonly CommandEntry[]): InputError {
  const near = closest(
    name,
    commands.map((command) => command.name),
  );
  return new InputError('usage', `unknown command: ${JSON.stringify(name)}`, {
    hint: near === undefined ? 'see atoll --help' : `did you mean atoll ${near}?`,
  });
}

/** What `atoll --help` prints. */
export function formatHelp(commands: readonly CommandEntry[]): string {
  const width = Math.max(...commands.map((command) => command.name.length));
  const lines = commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}\n`).join('');
  return `Atoll: virtual Postgres clusters with disaster recovery built in.

Usage: atoll COMMAND [flags]

Commands:
${lines}
atoll COMMAND --help tells more. To try it all out: atoll demo
`;
}
