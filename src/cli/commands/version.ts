import { isAppError } from '../../base/index.ts';
import { findBundledEngine } from '../../instance/index.ts';
import { defineCommand } from '../command.ts';
import { productVersion } from '../product.ts';

export const versionCommand = defineCommand({
  name: 'version',
  usage: '',
  description: ['Prints the version of Atoll and of its parts.'],
  examples: [],
  flags: {},
  positionalsMax: 0,
  async run(_flags, { stdout }) {
    const parts: [string, string][] = [
      ['Atoll', productVersion()],
      ['PostgreSQL', await engineText()],
      ['Node.js', process.versions.node],
      ['Platform', `${process.platform}-${process.arch}`],
    ];
    stdout.write(parts.map(([part, version]) => `${part.padEnd(10)} ${version}\n`).join(''));
    return 0;
  },
});

/** The engine that npm brought. That it is missing is news for `atoll version`, not its end: one may have been named by a flag. */
async function engineText(): Promise<string> {
  try {
    return (await findBundledEngine()).packageVersion;
  } catch (error) {
    if (isAppError(error, 'engine_invalid')) return 'not installed';
    throw error;
  }
}
