import { parseArgs, type ParseArgsConfig } from 'node:util';
import { InputError } from '../../base/index.ts';
import type { Flag, FlagSet, FlagValues } from './flag.ts';
import { closest } from './suggest.ts';

export interface ParsedArguments<F extends FlagSet> {
  readonly flags: FlagValues<F>;
  readonly positionals: readonly string[];
  /** `--help` or `-h` was among them: nothing else was read. */
  readonly wantsHelp: boolean;
}

/**
 * Reads a command's arguments. A flag given on the command line wins over its environment variable, which wins over the
 * default. An empty variable is as good as none.
 * @throws InputError `usage`
 */
export function parseArguments<F extends FlagSet>(
  declared: F,
  input: { argv: readonly string[]; environment: Readonly<Record<string, string | undefined>> },
): ParsedArguments<F> {
  const given = collect(declared, input.argv);
  const read = (flag: Flag<unknown>): unknown => {
    const texts = given.texts.get(flag.name);
    if (texts !== undefined) return flag.read(texts);
    const text = flag.variable === undefined ? undefined : input.environment[flag.variable];
    if (text === undefined || text === '') return flag.read([]);
    try {
      return flag.read([text]);
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      const hint = error.hint === undefined ? {} : { hint: error.hint };
      throw new InputError('usage', `${error.message} (from ${flag.variable})`, { cause: error, ...hint });
    }
  };
  const entries = given.wantsHelp
    ? []
    : Object.entries(declared).map(([key, flag]) => [key, read(flag)] as const);
  // The entries were made from the declarations one by one; TypeScript cannot follow the mapping.
  const flags = Object.fromEntries(entries) as FlagValues<F>;
  return { flags, positionals: given.positionals, wantsHelp: given.wantsHelp };
}

interface Given {
  readonly texts: ReadonlyMap<string, readonly string[]>;
  readonly positionals: readonly string[];
  readonly wantsHelp: boolean;
}

function collect(declared: FlagSet, argv: readonly string[]): Given {
  const byName = new Map(Object.values(declared).map((flag) => [flag.name, flag]));
  const options: NonNullable<ParseArgsConfig['options']> = { help: { type: 'boolean', short: 'h' } };
  for (const flag of byName.values()) {
    options[flag.name] = {
      type: flag.placeholder === undefined ? 'boolean' : 'string',
      ...(flag.short === undefined ? {} : { short: flag.short }),
    };
  }
  const { tokens, positionals } = parseArgs({
    args: [...argv],
    options,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const texts = new Map<string, string[]>();
  if (tokens.some((token) => token.kind === 'option' && token.name === 'help')) {
    return { texts, positionals, wantsHelp: true };
  }
  for (const token of tokens) {
    if (token.kind !== 'option') continue;
    const flag = byName.get(token.name);
    if (flag === undefined) throw unknownFlag(token.rawName, [...byName.keys(), 'help']);
    if (flag.placeholder !== undefined && token.value === undefined) {
      throw new InputError('usage', `--${flag.name} needs a value`, {
        hint: `write --${flag.name}=${flag.placeholder}`,
      });
    }
    texts.set(flag.name, [...(texts.get(flag.name) ?? []), token.value ?? 'true']);
  }
  return { texts, positionals, wantsHelp: false };
}

function unknownFlag(rawName: string, names: readonly string[]): InputError {
  const near = closest(rawName.replace(/^-+/, ''), names);
  return new InputError('usage', `unknown flag: ${rawName}`, {
    hint: near === undefined ? 'see --help' : `did you mean --${near}?`,
  });
}
