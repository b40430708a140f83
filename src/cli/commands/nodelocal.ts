import { basename } from 'node:path';
import { InputError } from '../../base/index.ts';
import { defineCommand } from '../command.ts';
import { defineCommandGroup } from '../command-group.ts';
import { remoteUri } from '../files/paths.ts';
import { progressOf } from '../files/progress.ts';
import { inSession, sendFile } from '../files/remote.ts';
import { CLIENT_FLAGS, toTarget } from '../flags/client-flags.ts';
import { readPath } from '../flags/readers.ts';

const ROOT = 'nodelocal://self/';

const uploadCommand = defineCommand({
  name: 'nodelocal upload',
  usage: 'SOURCE DESTINATION [flags]',
  description: [
    'Copies a file into the external directory of the node that it connects to, where BACKUP and RESTORE find it as nodelocal://self/DESTINATION. It takes the admin role or EXTERNALIOIMPLICITACCESS, and of the virtual cluster the capability can_use_nodelocal_storage. A file that is there is never replaced.',
  ],
  examples: ['atoll nodelocal upload orders.csv imports/orders.csv --insecure'],
  flags: CLIENT_FLAGS,
  positionalsMax: 2,
  async run(flags, context, [source, destination]) {
    if (source === undefined || destination === undefined) {
      throw new InputError('usage', 'a file and its destination must be named', {
        hint: 'write atoll nodelocal upload FILE PATH',
      });
    }
    const isFolder = destination.endsWith('/');
    const uri = remoteUri(isFolder ? `${destination}${basename(source)}` : destination, ROOT);
    const progress = progressOf(context.stderr, source);
    return inSession(toTarget(flags, context.environment), context, async (session) => {
      const uploaded = await sendFile(session, { path: readPath(source), uri }, progress);
      context.stdout.write(`successfully uploaded to ${uploaded}\n`);
    });
  },
});

export const nodelocalCommand = defineCommandGroup({
  name: 'nodelocal',
  description: 'Brings files into the external directory of a node.',
  members: [uploadCommand],
});
