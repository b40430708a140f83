import { InputError } from '../../base/index.ts';
import { defineCommand } from '../command.ts';
import { defineCommandGroup } from '../command-group.ts';
import { Archive } from '../debug/archive.ts';
import { gather } from '../debug/gather.ts';
import { optionalFlag, switchFlag, valueFlag } from '../flags/flag.ts';
import { readByteSize, readPath } from '../flags/readers.ts';
import { storeFlag } from '../flags/server-flags.ts';

const zipCommand = defineCommand({
  name: 'debug zip',
  usage: 'FILE [--store DIR] [flags]',
  description: [
    'Writes what support needs into a zip file: the node and its machine, figures, virtual clusters with their settings, timelines, jobs and schedules, and the newest logs. It runs on the machine of the node, as its user; of a node that does not run it takes the files.',
    'There are no passwords, keys, rows or texts of queries in it. Names of users, statements of Atoll and what PostgreSQL says in its log are, unless --redact leaves them out.',
  ],
  examples: [
    'atoll debug zip atoll-debug.zip',
    'atoll debug zip atoll-debug.zip --store /var/lib/atoll --redact',
  ],
  flags: {
    store: storeFlag,
    redact: switchFlag({
      name: 'redact',
      inEnvironment: false,
      help: 'Leaves out whatever may tell of users or their data.',
    }),
    logDirectory: optionalFlag({
      name: 'log-dir',
      placeholder: 'DIR',
      defaultText: 'where the running node says, else logs in the store',
      help: 'Folder of the log of a node that does not run.',
      parse: readPath,
    }),
    logMaxSize: valueFlag({
      name: 'log-max-size',
      inEnvironment: false,
      placeholder: 'SIZE',
      default: '64MiB',
      help: 'Of the logs at most so much, before they are compressed; the newest first.',
      parse: (text) => readByteSize(text, { min: 0, max: 1024 ** 4 }),
    }),
  },
  positionalsMax: 1,
  async run(flags, context, [file]) {
    if (file === undefined) {
      throw new InputError('usage', 'no file is named', { hint: 'write atoll debug zip FILE' });
    }
    const path = readPath(file);
    using archive = new Archive(path);
    const { errors } = await gather(archive, {
      store: flags.store,
      logDirectory: flags.logDirectory,
      logBytesMax: flags.logMaxSize,
      isRedacted: flags.redact,
    });
    archive.finish();
    for (const error of errors) context.stderr.write(`left out: ${error}\n`);
    context.stdout.write(`${path}\n`);
    return 0;
  },
});

export const debugCommand = defineCommandGroup({
  name: 'debug',
  description: 'Tells what is the matter with a node.',
  members: [zipCommand],
});
