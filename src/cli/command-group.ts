import { InputError } from '../base/index.ts';
import type { Command } from './command.ts';
import { closest } from './flags/suggest.ts';

/** A command made of others, such as `atoll cert create-ca`. Its members' names begin with its own. */
export function defineCommandGroup(options: {
  readonly name: string;
  readonly description: string;
  readonly members: readonly Command[];
}): Command {
  const { name, description, members } = options;
  const memberOf = (argument: string) => members.find((member) => member.name === `${name} ${argument}`);
  const names = members.map((member) => member.name.slice(name.length + 1));
  const help =
    `Usage: atoll ${name} COMMAND [flags]\n\n${description}\n\n` +
    members.map((member) => member.help).join('\n');
  return {
    name,
    help,
    async start(context) {
      const [argument, ...argv] = context.argv;
      if (argument === undefined || argument === '--help' || argument === '-h') {
        context.stdout.write(help);
        return argument === undefined ? 64 : 0;
      }
      const member = memberOf(argument);
      if (member !== undefined) return await member.start({ ...context, argv });
      const near = closest(argument, names);
      throw new InputError('usage', `unknown command: ${name} ${JSON.stringify(argument)}`, {
        hint: near === undefined ? `use one of: ${names.join(', ')}` : `did you mean atoll ${name} ${near}?`,
      });
    },
  };
}
