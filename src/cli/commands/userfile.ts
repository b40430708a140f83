import { mkdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { InputError } from '../../base/index.ts';
import { defineCommand, type CommandContext } from '../command.ts';
import { defineCommandGroup } from '../command-group.ts';
import { below, filesBelow, lastElement, parsePattern, pathOf, remoteUri } from '../files/paths.ts';
import { progressOf } from '../files/progress.ts';
import { fetchFile, inSession, listFiles, type RemoteFile, sendFile } from '../files/remote.ts';
import { CLIENT_FLAGS, toTarget } from '../flags/client-flags.ts';
import { switchFlag, type FlagValues } from '../flags/flag.ts';
import { readPath } from '../flags/readers.ts';
import type { SqlSession } from '../sql/session.ts';

const ROOT = 'userfile:///';
const PATTERN = 'In a pattern * stands for any characters, slashes too.';

const uploadCommand = defineCommand({
  name: 'userfile upload',
  usage: '[-r] SOURCE [DESTINATION] [flags]',
  description: [
    'Copies a file into userfile storage of the virtual cluster, where only its user and admins see it, and where BACKUP and RESTORE find it as userfile:///DESTINATION. A file that is there is never replaced.',
    'With -r, a folder with all that is below it: as a folder of its name in DESTINATION, or, when SOURCE ends in a slash, into DESTINATION itself.',
  ],
  examples: [
    'atoll userfile upload orders.csv imports/orders.csv --url postgresql://ann@db:26257',
    'atoll userfile upload -r ./backups --insecure',
  ],
  flags: {
    ...CLIENT_FLAGS,
    recursive: switchFlag({
      name: 'recursive',
      short: 'r',
      inEnvironment: false,
      help: 'Uploads a folder with all that is below it.',
    }),
  },
  positionalsMax: 2,
  async run(flags, context, [source, destination]) {
    if (source === undefined) throw new InputError('usage', 'no file is named');
    const path = readPath(source);
    if (!flags.recursive) {
      const to = destination === undefined || destination.endsWith('/') ? basename(path) : '';
      const uri = joined(destination, to);
      return run(flags, context, async (session) => {
        const uploaded = await sendFile(session, { path, uri }, progressOf(context.stderr, source));
        context.stdout.write(`successfully uploaded to ${uploaded}\n`);
      });
    }
    const files = await filesBelow(path);
    if (files.length === 0) throw new InputError('usage', `${source} holds no files`);
    const folder = lastElement(source);
    const uris = files.map(({ relative }) =>
      joined(destination, folder === '' ? relative : `${folder}/${relative}`),
    );
    return run(flags, context, async (session) => {
      for (const [at, file] of files.entries()) {
        context.stdout.write(`uploading: ${file.relative}\n`);
        const uri = uris[at] ?? '';
        const uploaded = await sendFile(
          session,
          { path: file.path, uri },
          progressOf(context.stderr, file.relative),
        );
        context.stdout.write(`successfully uploaded to ${uploaded}\n`);
      }
    });
  },
});

/** A destination and what comes below it; one of both may be empty. @throws InputError `usage` */
function joined(destination: string | undefined, path: string): string {
  if (destination === undefined || destination === '' || destination === '/') return remoteUri(path, ROOT);
  const uri = path === '' ? destination : destination.replace(/\/$/, '');
  return path === '' ? remoteUri(uri, ROOT) : below(remoteUri(uri, ROOT), path);
}

const listCommand = defineCommand({
  name: 'userfile list',
  usage: '[PATTERN] [flags]',
  description: [`Lists files of userfile storage; without a pattern all of the user's. ${PATTERN}`],
  examples: ['atoll userfile list', "atoll userfile list 'imports/*.csv'"],
  flags: CLIENT_FLAGS,
  positionalsMax: 1,
  async run(flags, context, [pattern]) {
    return run(flags, context, async (session) => {
      for (const { uri } of await matching(session, pattern)) context.stdout.write(`${uri}\n`);
    });
  },
});

const getCommand = defineCommand({
  name: 'userfile get',
  usage: 'PATTERN [DESTINATION] [flags]',
  description: [
    `Copies files of userfile storage into new local ones. ${PATTERN} A single file goes to DESTINATION, several below it under their own paths; without it, into the working folder. No local file is replaced.`,
  ],
  examples: ['atoll userfile get imports/orders.csv', "atoll userfile get 'backups/*' ./copy"],
  flags: CLIENT_FLAGS,
  positionalsMax: 2,
  async run(flags, context, [pattern, destination]) {
    if (pattern === undefined) throw new InputError('usage', 'no file is named');
    return run(flags, context, async (session) => {
      const files = await someMatching(session, pattern);
      const isOne = !pattern.includes('*');
      for (const { uri } of files) {
        const path = isOne
          ? await placeOfOne(uri, destination)
          : join(readPath(destination ?? '.'), pathOf(uri));
        await mkdir(dirname(path), { recursive: true });
        await fetchFile(session, { uri, path }, progressOf(context.stderr, pathOf(uri)));
        context.stdout.write(`downloaded ${uri} to ${path}\n`);
      }
    });
  },
});

async function placeOfOne(uri: string, destination: string | undefined): Promise<string> {
  const name = basename(pathOf(uri));
  const path = readPath(destination ?? name);
  const isFolder = destination !== undefined && (await stat(path).catch(() => null))?.isDirectory() === true;
  return isFolder ? join(path, name) : path;
}

const deleteCommand = defineCommand({
  name: 'userfile delete',
  usage: 'PATTERN [flags]',
  description: [
    `Deletes files of userfile storage, one after the other: when it fails, some may be gone. ${PATTERN}`,
  ],
  examples: ['atoll userfile delete imports/orders.csv', "atoll userfile delete '*'"],
  flags: CLIENT_FLAGS,
  positionalsMax: 1,
  async run(flags, context, [pattern]) {
    if (pattern === undefined) throw new InputError('usage', 'no file is named');
    return run(flags, context, async (session) => {
      for (const { uri } of await someMatching(session, pattern)) {
        await session.query('DROP FILE $1', [uri]);
        context.stdout.write(`deleted ${uri}\n`);
      }
    });
  },
});

export const userfileCommand = defineCommandGroup({
  name: 'userfile',
  description: "Keeps files in userfile storage: a user's own, inside a virtual cluster.",
  members: [uploadCommand, listCommand, getCommand, deleteCommand],
});

function run(
  flags: FlagValues<typeof CLIENT_FLAGS>,
  context: CommandContext,
  work: (session: SqlSession) => Promise<void>,
): Promise<number> {
  return inSession(toTarget(flags, context.environment), context, work);
}

async function matching(session: SqlSession, written: string | undefined): Promise<readonly RemoteFile[]> {
  const pattern = parsePattern(written);
  return (await listFiles(session, pattern.root)).filter(({ uri }) => pattern.matches(uri));
}

/** @throws InputError `object_not_found` */
async function someMatching(session: SqlSession, written: string): Promise<readonly RemoteFile[]> {
  const files = await matching(session, written);
  if (files.length > 0) return files;
  throw new InputError(
    'object_not_found',
    `no file of userfile storage is called ${JSON.stringify(written)}`,
    {
      hint: 'atoll userfile list lists them; in a pattern * stands for any characters',
    },
  );
}
