import { InputError } from '../../base/index.ts';

/**
 * The one declaration of a flag: from it come the command line, the environment variable, the default, the check and the
 * line of help.
 */
export interface Flag<T> {
  /** Without the dashes, e.g. `listen-addr`. */
  readonly name: string;
  /** One letter, without the dash. */
  readonly short?: string;
  /** Environment variable that says the same; undefined when there is none. */
  readonly variable: string | undefined;
  /** What stands for the value in the help; undefined for a switch, which takes none. */
  readonly placeholder: string | undefined;
  /** One or two sentences. */
  readonly help: string;
  /** How the help prints what applies when nothing is given. */
  readonly defaultText: string | undefined;
  /** The values as given, in order; none when the flag was not given. @throws InputError `usage` */
  read(texts: readonly string[]): T;
}

/** Flags of a command, by the names under which the code reads them. */
export type FlagSet = Readonly<Record<string, Flag<unknown>>>;

export type FlagValues<F extends FlagSet> = {
  readonly [Key in keyof F]: F[Key] extends Flag<infer T> ? T : never;
};

/** What every flag says of itself. */
interface Common {
  readonly name: string;
  readonly short?: string;
  /** False for flags that make no sense in the environment. The variable is made of the name. */
  readonly inEnvironment?: boolean;
  readonly help: string;
}

function variableOf({ name, inEnvironment }: Common): string | undefined {
  return inEnvironment === false ? undefined : `ATOLL_${name.replaceAll('-', '_').toUpperCase()}`;
}

/** A flag that is on or off; off unless given. */
export function switchFlag(options: Common): Flag<boolean> {
  return {
    ...options,
    variable: variableOf(options),
    placeholder: undefined,
    defaultText: undefined,
    read: (texts) => readSwitch(options.name, texts.at(-1)),
  };
}

/** A flag with a value and a default, which is read like any other text. */
export function valueFlag<T>(
  options: Common & { placeholder: string; default: string; parse: (text: string) => T },
): Flag<T> {
  const { parse, default: defaultText, ...common } = options;
  return {
    ...common,
    variable: variableOf(options),
    defaultText,
    read: (texts) => readValue(options.name, parse, texts.at(-1) ?? defaultText),
  };
}

/** A flag with a value that may be left out. */
export function optionalFlag<T>(
  options: Common & { placeholder: string; defaultText?: string; parse: (text: string) => T },
): Flag<T | undefined> {
  const { parse, ...common } = options;
  return {
    ...common,
    variable: variableOf(options),
    defaultText: options.defaultText,
    read(texts) {
      const text = texts.at(-1);
      return text === undefined ? undefined : readValue(options.name, parse, text);
    },
  };
}

/** A flag that may be given several times. */
export function listFlag<T>(
  options: Common & { placeholder: string; parse: (text: string) => T },
): Flag<readonly T[]> {
  const { parse, ...common } = options;
  return {
    ...common,
    variable: variableOf(options),
    defaultText: undefined,
    read: (texts) => texts.map((text) => readValue(options.name, parse, text)),
  };
}

function readSwitch(name: string, text: string | undefined): boolean {
  if (text === undefined) return false;
  if (/^(?:true|yes|on|1)$/i.test(text)) return true;
  if (/^(?:false|no|off|0)$/i.test(text)) return false;
  throw new InputError('usage', `invalid value for --${name}: ${JSON.stringify(text)}`, {
    hint: 'use true or false',
  });
}

function readValue<T>(name: string, parse: (text: string) => T, text: string): T {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new InputError('usage', `invalid value for --${name}: ${error.message}`, {
      cause: error,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
    });
  }
}
