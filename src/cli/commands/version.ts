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
    stdout.write(
      `Atoll      ${productVersion()}\nNode.js    ${process.versions.node}\nPlatform   ${process.platform}-${process.arch}\n`,
    );
    return 0;
  },
});
