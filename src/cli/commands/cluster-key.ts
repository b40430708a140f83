import { readFile } from 'node:fs/promises';
import { AppError, errnoOf, InputError } from '../../base/index.ts';
import { addTrustedKey, readStoreKey, readTrustedKeys, removeTrustedKey } from '../../instance/index.ts';
import { type ClusterKey, formatKeyFile, parseKeyFile } from '../../keys/index.ts';
import { writeFiles } from '../cert/files.ts';
import { defineCommand } from '../command.ts';
import { defineCommandGroup } from '../command-group.ts';
import { valueFlag } from '../flags/flag.ts';
import { readPath } from '../flags/readers.ts';
import { DEFAULT_STORE } from '../flags/server-flags.ts';

const storeFlag = valueFlag({
  name: 'store',
  placeholder: 'DIR',
  default: DEFAULT_STORE,
  help: 'Store of the node; it may run meanwhile.',
  parse: readPath,
});

const exportCommand = defineCommand({
  name: 'cluster-key export',
  usage: 'FILE [--store DIR]',
  description: [
    'Writes the key that the backups of this physical cluster are sealed with into a new file. Keep it apart from the store: without it no backup can be told from a forgery, and none is restored.',
    'Who has it can make backups that are restored here as if they were ours: it is a secret.',
  ],
  examples: ['atoll cluster-key export /safe/shop.key --store /var/lib/atoll'],
  flags: { store: storeFlag },
  positionalsMax: 1,
  async run({ store }, { stdout }, [file]) {
    const path = requireFile(file);
    const key = await readStoreKey(store);
    writeFiles([{ path, content: formatKeyFile(key), isSecret: true }], {
      mayReplace: false,
      takenHint: 'name another file',
    });
    stdout.write(`key ${key.id} written to ${path}\n`);
    return 0;
  },
});

const importCommand = defineCommand({
  name: 'cluster-key import',
  usage: 'FILE [--store DIR]',
  description: [
    'Accepts the backups of another physical cluster from now on: its virtual clusters can be restored here, and its backups shown. Nothing of ours is sealed with it. A node that runs need not be started again; each node needs it in its own store.',
    'Restoring runs what it restores. Import the key of a cluster only if you trust whoever may back up there.',
  ],
  examples: ['atoll cluster-key import /safe/shop.key --store /var/lib/atoll'],
  flags: { store: storeFlag },
  positionalsMax: 1,
  async run({ store }, { stdout }, [file]) {
    const key = await readKeyFile(requireFile(file));
    const own = await readStoreKey(store);
    if (own.id === key.id) {
      stdout.write(`key ${key.id} is that of the store: its backups are accepted anyway\n`);
      return 0;
    }
    await addTrustedKey(store, key);
    stdout.write(`backups sealed with key ${key.id} are accepted\n`);
    return 0;
  },
});

const listCommand = defineCommand({
  name: 'cluster-key list',
  usage: '[--store DIR]',
  description: [
    'Lists the keys whose backups are accepted, by their ids. The keys themselves are not shown.',
  ],
  examples: ['atoll cluster-key list --store /var/lib/atoll'],
  flags: { store: storeFlag },
  positionalsMax: 0,
  async run({ store }, { stdout }) {
    const own = await readStoreKey(store);
    const trusted = await readTrustedKeys(store);
    stdout.write(`${own.id}  own\n${trusted.map(({ id }) => `${id}  imported\n`).join('')}`);
    return 0;
  },
});

const removeCommand = defineCommand({
  name: 'cluster-key remove',
  usage: 'ID [--store DIR]',
  description: ['Accepts the backups of another physical cluster no more. What was restored stays.'],
  examples: ['atoll cluster-key remove 8c1f0a2b3c4d5e6f --store /var/lib/atoll'],
  flags: { store: storeFlag },
  positionalsMax: 1,
  async run({ store }, { stdout }, [id]) {
    if (id === undefined) throw new InputError('usage', 'which key?', { hint: 'atoll cluster-key list' });
    if (!(await removeTrustedKey(store, id))) {
      throw new InputError('usage', `key ${JSON.stringify(id)} was not imported`, {
        hint: '"atoll cluster-key list" tells which were',
      });
    }
    stdout.write(`backups sealed with key ${id} are not accepted any more\n`);
    return 0;
  },
});

export const clusterKeyCommand = defineCommandGroup({
  name: 'cluster-key',
  description: 'Keeps and carries the keys that backups are sealed with.',
  members: [exportCommand, importCommand, listCommand, removeCommand],
});

/** What "export" wrote, or the file "cluster-key" of a store. @throws InputError `usage`, `parameter_invalid` */
export async function readKeyFile(path: string): Promise<ClusterKey> {
  try {
    return parseKeyFile(await readFile(path), path);
  } catch (error) {
    if (error instanceof AppError || errnoOf(error) === undefined) throw error;
    throw new InputError('usage', `the key of a cluster cannot be read from ${path}: ${errnoOf(error)}`, {
      hint: 'name what "atoll cluster-key export" wrote, or the file "cluster-key" of the store that the backups were made in',
    });
  }
}

function requireFile(file: string | undefined): string {
  if (file === undefined)
    throw new InputError('usage', 'which file?', { hint: 'see atoll cluster-key --help' });
  return readPath(file);
}
