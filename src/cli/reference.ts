import { ERRORS } from '../base/index.ts';
import { COMMANDS } from './commands.ts';
import { formatHelp } from './program.ts';
import { formatMetaHelp } from './sql/meta.ts';

/** The page `docs/reference/cli.md`, made from what the commands print themselves. */
export async function cliReference(): Promise<string> {
  const sections: string[] = [];
  for (const entry of COMMANDS) {
    const command = await entry.load();
    sections.push(`## atoll ${command.name}\n\n${fenced(command.help)}`);
  }
  return `# Command line

This page is made from the declarations in \`src/cli\` by \`scripts/generate-cli-reference.ts\`. A flag given on the command line wins
over its environment variable, which wins over the default.

${fenced(formatHelp(COMMANDS))}
${sections.join('\n')}
## Commands of the shell

${fenced(formatMetaHelp())}
## Exit codes

| Code | Meaning |
|---|---|
| 0 | done |
| 1 | a statement of \`atoll sql\`, \`userfile\` or \`nodelocal\` failed, or the state of an object forbids what was asked |
| ${ERRORS.parameter_invalid.exit} | a value is invalid, or a feature is not supported |
| ${ERRORS.usage.exit} | the command line is wrong |
| ${ERRORS.address_in_use.exit} | an address is in use, or the PostgreSQL engine is missing |
| ${ERRORS.internal.exit} | a bug |
| ${ERRORS.store_in_use.exit} | the store is in use by another process |
| ${ERRORS.store_invalid.exit} | the store is foreign, newer than this release or damaged, or the disk is full or failing |
| ${ERRORS.connection_failure.exit} | the server cannot be reached, or not now |
| ${ERRORS.authentication_failed.exit} | the login was refused, or a privilege is missing |
| ${ERRORS.cancelled.exit} | interrupted |
`;
}

function fenced(text: string): string {
  return `\`\`\`text\n${text.trimEnd()}\n\`\`\`\n`;
}
