import { InputError } from '../../base/index.ts';
import { statementHelp } from '../../sql/index.ts';
import {
  describeRelations,
  listDatabases,
  listRelations,
  listRoles,
  listSchemas,
  type Description,
} from './describe.ts';
import { createFormatter, NULL_TEXT, TableFormatter } from './format/index.ts';
import { askNewPassword } from './password.ts';
import { scramVerifier } from './scram.ts';
import type { Shell } from './shell.ts';
import { formatPlace, formatUrl } from './target.ts';

interface MetaCommand {
  readonly names: readonly string[];
  readonly arguments: string;
  readonly help: string;
  run(context: MetaContext): Promise<'continue' | 'quit' | void>;
}

interface MetaContext {
  readonly shell: Shell;
  readonly name: string;
  /** Words after the command, quotes around file names taken off. */
  readonly words: readonly string[];
  /** Everything after the command, as typed. */
  readonly rest: string;
}

const COMMANDS: readonly MetaCommand[] = [
  { names: ['q', 'quit'], arguments: '', help: 'leave the shell', run: async () => 'quit' },
  {
    names: ['?'],
    arguments: '',
    help: 'this help',
    run: async ({ shell }) => shell.output.write(formatMetaHelp()),
  },
  {
    names: ['h', 'help'],
    arguments: '[STATEMENT]',
    help: "how Atoll's own statements are written",
    run: async ({ shell, rest }) => shell.output.write(formatStatementHelp(rest)),
  },
  {
    names: ['c', 'connect'],
    arguments: '[DATABASE [USER]]',
    help: 'connect to another database of the virtual cluster',
    async run({ shell, words }) {
      const { target } = shell.session;
      const [database = target.database, user = target.user] = words;
      const keepsPassword = user === target.user;
      await shell.reconnect({
        ...target,
        database,
        user,
        password: keepsPassword ? target.password : undefined,
      });
      shell.say(`You are now connected to database "${database}" as user "${user}".\n`);
    },
  },
  {
    names: ['password'],
    arguments: '[USER]',
    help: 'set a password, asked for twice and never sent',
    async run({ shell, words }) {
      const user = words[0] ?? (await shell.session.query('SELECT CURRENT_USER')).rows[0]?.[0] ?? '';
      const verifier = scramVerifier(await askNewPassword({ user }));
      // ALTER ROLE takes no parameters; the server itself quotes the name and the text.
      const { rows } = await shell.session.query(
        "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)",
        [user, verifier],
      );
      await shell.session.query(rows[0]?.[0] ?? '');
      shell.say(`Password of "${user}" is set.\n`);
    },
  },
  {
    names: ['conninfo'],
    arguments: '',
    help: 'where the session is connected',
    async run({ shell }) {
      const { target, virtualCluster } = shell.session;
      const cluster = virtualCluster === undefined ? '' : ` of virtual cluster "${virtualCluster}"`;
      shell.output.write(
        `Connected to database "${target.database}"${cluster} as user "${target.user}" at ${formatPlace(target)}.\n` +
          `${formatUrl(target)}\n`,
      );
    },
  },
  {
    names: ['l', 'list'],
    arguments: '',
    help: 'databases of the virtual cluster',
    run: async ({ shell }) => show(shell, await listDatabases(shell.session)),
  },
  {
    names: ['d'],
    arguments: '[NAME]',
    help: 'relations, or columns, indexes and constraints of one; NAME may be schema.name, and hold * and ?',
    async run({ shell, words }) {
      const [pattern] = words;
      if (pattern === undefined) {
        show(shell, await listRelations(shell.session, { kinds: 'r,p,v,m,S,f', pattern: undefined }));
        return;
      }
      const descriptions = await describeRelations(shell.session, pattern);
      if (descriptions.length === 0) {
        throw new InputError('object_not_found', `did not find any relation named "${pattern}"`);
      }
      for (const description of descriptions) show(shell, description);
    },
  },
  ...(
    [
      ['dt', 'tables', 'r,p'],
      ['di', 'indexes', 'i,I'],
      ['dv', 'views', 'v,m'],
      ['ds', 'sequences', 'S'],
    ] as const
  ).map(
    ([name, help, kinds]): MetaCommand => ({
      names: [name],
      arguments: '[PATTERN]',
      help,
      run: async ({ shell, words }) =>
        show(shell, await listRelations(shell.session, { kinds, pattern: words[0] })),
    }),
  ),
  {
    names: ['dn'],
    arguments: '[PATTERN]',
    help: 'schemas',
    run: async ({ shell, words }) => show(shell, await listSchemas(shell.session, words[0])),
  },
  {
    names: ['du', 'dg'],
    arguments: '[PATTERN]',
    help: 'roles',
    run: async ({ shell, words }) => show(shell, await listRoles(shell.session, words[0])),
  },
  {
    names: ['i', 'include'],
    arguments: 'FILE',
    help: 'run the statements of a file',
    async run({ shell, words }) {
      const [path] = words;
      if (path === undefined) throw new InputError('usage', '\\i needs the name of a file');
      return (await shell.runFile(path)) === 'quit' ? 'quit' : 'continue';
    },
  },
  {
    names: ['o', 'out'],
    arguments: '[FILE]',
    help: 'results go to a file, or to the terminal again',
    run: async ({ shell, words }) => shell.output.redirect(words[0]),
  },
  {
    names: ['x'],
    arguments: '[on|off]',
    help: 'show rows as records, or as a table again',
    async run({ shell, words }) {
      const isOn = readSwitch(words[0], shell.settings.format !== 'records');
      shell.settings.format = isOn ? 'records' : 'table';
      shell.say(`Expanded display is ${isOn ? 'on' : 'off'}.\n`);
    },
  },
  {
    names: ['timing'],
    arguments: '[on|off]',
    help: 'show how long statements take',
    async run({ shell, words }) {
      shell.settings.isTimed = readSwitch(words[0], !shell.settings.isTimed);
      shell.say(`Timing is ${shell.settings.isTimed ? 'on' : 'off'}.\n`);
    },
  },
  {
    names: ['echo'],
    arguments: '[TEXT]',
    help: 'print a text',
    run: async ({ shell, rest }) => shell.output.write(`${rest}\n`),
  },
  {
    names: ['restrict', 'unrestrict'],
    arguments: 'KEY',
    help: 'as dumps do it: in between, no other backslash command works',
    async run({ shell, name, words }) {
      const [key] = words;
      if (key === undefined) throw new InputError('usage', `\\${name} needs a key`);
      if (name === 'unrestrict' && shell.restrictKey !== key) {
        throw new InputError('usage', '\\unrestrict does not match \\restrict');
      }
      shell.restrictKey = name === 'restrict' ? key : undefined;
    },
  },
];

/** Carries out a line that begins with a backslash. @throws InputError, or the server's error */
export async function runMeta(shell: Shell, line: string): Promise<'continue' | 'quit'> {
  const match = /^\\(\?|!|[a-zA-Z]*)(\+?)\s*(.*)$/s.exec(line.replace(/;\s*$/, ''));
  const name = match?.[1] ?? '';
  if (name === '!') {
    throw new InputError('feature_not_supported', '\\! is not offered', {
      hint: 'run programs from your own shell',
    });
  }
  const command = COMMANDS.find(({ names }) => names.includes(name));
  if (command === undefined) throw new InputError('usage', `unknown command: \\${name}`, { hint: 'see \\?' });
  if (shell.restrictKey !== undefined && name !== 'unrestrict') {
    throw new InputError('usage', `\\${name} does not work between \\restrict and \\unrestrict`);
  }
  const rest = match?.[3] ?? '';
  const words = [...rest.matchAll(/'((?:[^']|'')*)'|((?:"(?:[^"]|"")*"|[^\s"])+)/g)].map(
    (word) => word[1]?.replaceAll("''", "'") ?? word[2] ?? '',
  );
  return (await command.run({ shell, name, words, rest })) ?? 'continue';
}

function show(shell: Shell, { title, result, footer }: Description): void {
  const formatter =
    shell.settings.format === 'table'
      ? new TableFormatter({ nullText: '', title, hasFooter: footer.length === 0 })
      : createFormatter(shell.settings.format);
  shell.output.write(formatter.begin(result.columns));
  for (const row of result.rows) shell.output.write(formatter.row(row));
  shell.output.write(formatter.end({ tag: '' }));
  const isForPeople = shell.settings.format === 'table' || shell.settings.format === 'records';
  if (isForPeople) shell.output.write(`${footer.map((line) => `${line}\n`).join('')}\n`);
}

function readSwitch(word: string | undefined, toggled: boolean): boolean {
  if (word === undefined) return toggled;
  if (/^(?:on|true|1)$/i.test(word)) return true;
  if (/^(?:off|false|0)$/i.test(word)) return false;
  throw new InputError('usage', `neither on nor off: ${word}`);
}

/** What `\\?` prints. */
export function formatMetaHelp(): string {
  const lines = COMMANDS.map(({ names, arguments: arguments_, help }) => {
    const usage = `${names.map((name) => `\\${name}`).join(', ')} ${arguments_}`.trim();
    return `  ${usage.padEnd(34)}${help}\n`;
  });
  return `Statements end with a semicolon. Ctrl-C cancels the running one, Ctrl-D leaves.\n\n${lines.join('')}\nNULL is shown as ${NULL_TEXT}.\n`;
}

/** The statements of Atoll's own, or one of them in full. */
export function formatStatementHelp(topic: string): string {
  const wanted = topic.replace(/;\s*$/, '').trim().toUpperCase();
  const all = Object.values(statementHelp);
  const found = wanted === '' ? [] : all.filter(({ name }) => name.toUpperCase().startsWith(wanted));
  if (found.length > 0) {
    return found
      .map(
        ({ name, summary, synopsis }) =>
          `${name}: ${summary}\n\n${synopsis.map((line) => `  ${line}\n`).join('')}\n`,
      )
      .join('');
  }
  const heading =
    wanted === ''
      ? "Atoll's own statements; every other statement is PostgreSQL's."
      : `No help for "${topic.trim()}". It may be a statement of PostgreSQL. Atoll's own statements:`;
  const width = Math.max(...all.map(({ name }) => name.length)) + 2;
  return `${heading}\n\n${all.map(({ name, summary }) => `  ${name.padEnd(width)}${summary}\n`).join('')}`;
}
