import { homedir } from 'node:os';
import { join } from 'node:path';
import { ReadStream } from 'node:tty';
import { ERRORS } from '../../base/index.ts';
import { defineCommand, type CommandContext } from '../command.ts';
import { CLIENT_FLAGS, toTarget } from '../flags/client-flags.ts';
import { listFlag, optionalFlag, type FlagValues } from '../flags/flag.ts';
import { readChoice, readPath } from '../flags/readers.ts';
import { productVersion } from '../product.ts';
import { FORMATS } from '../sql/format/index.ts';
import { HistoryFile } from '../sql/history.ts';
import { streamLines } from '../sql/line-source.ts';
import { runMeta } from '../sql/meta.ts';
import { askPassword } from '../sql/password.ts';
import { Shell, type Outcome } from '../sql/shell.ts';
import { StatementSplitter } from '../sql/splitter.ts';
import type { ConnectionTarget } from '../sql/target.ts';
import { TerminalSource } from '../sql/terminal-source.ts';

const FLAGS = {
  ...CLIENT_FLAGS,
  execute: listFlag({
    name: 'execute',
    short: 'e',
    inEnvironment: false,
    placeholder: 'SQL',
    help: 'Runs these statements and leaves. May be given several times; the first that fails ends it.',
    parse: (text) => text,
  }),
  file: listFlag({
    name: 'file',
    short: 'f',
    inEnvironment: false,
    placeholder: 'FILE',
    help: 'Runs the statements of a file and leaves. May be given several times, and together with -e.',
    parse: readPath,
  }),
  format: optionalFlag({
    name: 'format',
    placeholder: 'NAME',
    defaultText: 'table at a terminal, tsv elsewhere',
    help: `How results are written: ${FORMATS.join(', ')}.`,
    parse: (text) => readChoice(text, FORMATS),
  }),
};

export const sqlCommand = defineCommand({
  name: 'sql',
  usage: '[flags]',
  description: [
    'Without -e and -f, reads statements from standard input: with editing and history at a terminal, else as a script. A statement ends with a semicolon. \\? lists the commands of the shell, \\h the statements of Atoll.',
    'The exit code is 0 when all went well, 1 when a statement of -e, -f or a script failed.',
  ],
  examples: [
    'atoll sql --insecure',
    'atoll sql --url "postgresql://root@localhost:26257/defaultdb?options=-ccluster=system"',
    'atoll sql --store ./atoll-data  (through the local socket, without a password; \\password sets one)',
    'atoll sql --format csv -e "SELECT * FROM orders" > orders.csv',
  ],
  flags: FLAGS,
  positionalsMax: 0,
  run: runSql,
});

async function runSql(flags: FlagValues<typeof FLAGS>, context: CommandContext): Promise<number> {
  const target = toTarget(flags, context.environment);
  // A reader that goes away (`| head`) ends the command quietly, as with any filter.
  context.stdout.on('error', () => process.exit(0));
  const isScript = flags.execute.length > 0 || flags.file.length > 0;
  const terminal = !isScript && context.stdin instanceof ReadStream ? context.stdin : undefined;
  return terminal === undefined
    ? await runScripts(target, flags, context)
    : await runInteractive(target, { terminal, flags, context });
}

async function runScripts(
  target: ConnectionTarget,
  flags: FlagValues<typeof FLAGS>,
  context: CommandContext,
): Promise<number> {
  await using shell = await Shell.open(target, {
    settings: { format: flags.format ?? defaultFormat(context), isTimed: false, isInteractive: false },
    stdout: context.stdout,
    stderr: context.stderr,
    askPassword: () => askPassword({ user: target.user }),
    runMeta,
    remember: () => undefined,
    monotonicMs: () => performance.now(),
  });
  using _interrupts = onInterrupt(() => {
    if (!shell.isRunning) process.exit(ERRORS.cancelled.exit);
    void shell.session.cancel();
  });
  await using stdin = streamLines(context.stdin);
  for (const text of flags.execute) {
    if (!(await runText(shell, { text, stdin }))) return 1;
  }
  for (const path of flags.file) {
    const outcome = await shell.runFile(path);
    if (outcome !== 'done') return exitCodeOf(outcome);
  }
  if (flags.execute.length > 0 || flags.file.length > 0) return 0;
  return exitCodeOf(await shell.runLines(stdin));
}

/** Statements of `-e`; the data of a COPY among them comes from standard input. */
async function runText(
  shell: Shell,
  { text, stdin }: { text: string; stdin: ReturnType<typeof streamLines> },
): Promise<boolean> {
  if (text.trim().startsWith('\\')) return (await shell.runMetaLine(text.trim())) !== 'failed';
  const splitter = new StatementSplitter();
  const statements = [...splitter.push(`${text}\n`)];
  const rest = splitter.finish();
  if (rest !== undefined) statements.push(rest);
  for (const statement of statements) {
    if (!(await shell.execute(statement, stdin))) return false;
  }
  return true;
}

async function runInteractive(
  target: ConnectionTarget,
  options: { terminal: ReadStream; flags: FlagValues<typeof FLAGS>; context: CommandContext },
): Promise<number> {
  const { terminal, flags, context } = options;
  const file = new HistoryFile(join(homedir(), '.atoll_history'));
  let source: TerminalSource | undefined;
  await using shell = await Shell.open(target, {
    settings: { format: flags.format ?? defaultFormat(context), isTimed: true, isInteractive: true },
    stdout: context.stdout,
    stderr: context.stderr,
    askPassword: () => askPassword({ user: target.user }),
    runMeta,
    remember(entries) {
      file.append(entries);
      source?.remember(entries);
    },
    monotonicMs: () => performance.now(),
  });
  using _interrupts = onInterrupt(() => void shell.session.cancel());
  using lines = new TerminalSource({ terminal, output: context.stdout, history: file.load() });
  source = lines;
  shell.say(`Atoll ${productVersion()}. \\? for help, \\h for Atoll's statements, \\q to leave.\n`);
  await shell.runLines(lines);
  return 0;
}

function onInterrupt(handle: () => void): Disposable {
  process.on('SIGINT', handle);
  return { [Symbol.dispose]: () => process.off('SIGINT', handle) };
}

function defaultFormat({ stdout }: CommandContext): 'table' | 'tsv' {
  return 'isTTY' in stdout && stdout.isTTY === true ? 'table' : 'tsv';
}

function exitCodeOf(outcome: Outcome): number {
  return outcome === 'failed' ? 1 : 0;
}
