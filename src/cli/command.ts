import type { Readable, Writable } from 'node:stream';
import { InputError } from '../base/index.ts';
import type { FlagSet, FlagValues } from './flags/flag.ts';
import { formatFlagHelp, wrap } from './flags/help.ts';
import { parseArguments } from './flags/parse.ts';

/** What a command may touch of the process it runs in. */
export interface CommandContext {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** Arguments after the command's name, as given. */
  readonly argv: readonly string[];
}

/** A command as it is declared: help and flags are read off it. */
export interface CommandDeclaration<F extends FlagSet> {
  readonly name: string;
  /** What follows the command's name, e.g. `[flags]`. */
  readonly usage: string;
  /** Paragraphs below the usage. */
  readonly description: readonly string[];
  readonly examples: readonly string[];
  readonly flags: F;
  readonly positionalsMax: number;
  /** Resolves with the exit code. Errors of the operator's making are thrown. */
  run(flags: FlagValues<F>, context: CommandContext, positionals: readonly string[]): Promise<number>;
}

/** A command whose flags' types are its own business. */
export interface Command {
  readonly name: string;
  /** Usage, examples and flags, as `--help` prints them. */
  readonly help: string;
  /** Reads the arguments and does what they ask, which may be to print help. Resolves with the exit code. */
  start(context: CommandContext): Promise<number>;
}

/** Makes a command of its declaration. */
export function defineCommand<F extends FlagSet>(declaration: CommandDeclaration<F>): Command {
  const { name, flags, positionalsMax } = declaration;
  const help = formatCommandHelp(declaration);
  return {
    name,
    help,
    async start(context) {
      const parsed = parseArguments(flags, { argv: context.argv, environment: context.environment });
      if (parsed.wantsHelp) {
        context.stdout.write(help);
        return 0;
      }
      const excess = parsed.positionals[positionalsMax];
      if (excess !== undefined) {
        throw new InputError('usage', `unexpected argument: ${JSON.stringify(excess)}`, {
          hint: `see atoll ${name} --help`,
        });
      }
      return await declaration.run(parsed.flags, context, parsed.positionals);
    },
  };
}

function formatCommandHelp<F extends FlagSet>(declaration: CommandDeclaration<F>): string {
  const { name, usage, description, examples, flags } = declaration;
  const paragraphs = description.map((paragraph) => `${wrap(paragraph, 0)}\n`).join('');
  const shown = examples.map((example) => `  ${example}\n`).join('');
  const listed = formatFlagHelp(flags);
  return (
    `Usage: atoll ${name} ${usage}`.trimEnd() +
    `\n\n${paragraphs}` +
    (shown === '' ? '' : `Examples:\n${shown}\n`) +
    (listed === '' ? '' : `Flags:\n${listed}`)
  );
}
